import { apply, type Value } from "../graph.js";
import type { Operation } from "../operation.js";
import type { TensorType } from "../types.js";

/** y = value everywhere, in the type of the input, whose elements are not read. */
export const fillOperation: Operation = {
  name: "fill",
  attributes: ["value"],
  infer: ([like]) => [like as TensorType],
  gradient: () => [null],
};

/** A tensor of the type of `like` with every element `value`. */
export function fill(like: Value, value: number): Value {
  return apply(fillOperation, [like], { value })[0] as Value;
}
