import { apply, type Value } from "../graph.js";
import type { Operation } from "../operation.js";
import type { TensorType } from "../types.js";
import { concat } from "./concat.js";
import { fill } from "./fill.js";
import { slice, sliceOperation } from "./slice.js";

/** left = columns 0 … at of x, right = the others: what `concat` puts together, apart. */
export const splitOperation: Operation = {
  name: "split",
  attributes: ["at"],
  infer: ([x], { at = 0 }) => {
    const end = Number(x?.shape.at(-1));
    return [
      ...sliceOperation.infer([x as TensorType], { begin: 0, end: at }),
      ...sliceOperation.infer([x as TensorType], { begin: at, end }),
    ];
  },
  decompose: ([x], { at = 0 }) => {
    const end = Number((x as Value).type.shape.at(-1));
    return [slice(x as Value, { begin: 0, end: at }), slice(x as Value, { begin: at, end })];
  },
  gradient: ({ outputs, gradients }) => {
    const [left, right] = outputs.map((output, i) => gradients[i] ?? fill(output, 0));
    return [left && right ? concat(left, right) : null];
  },
};

/** Columns before and from `at` on of the last axis. @throws SHAPE_MISMATCH; INVALID_ARGUMENT for a fraction */
export function split(x: Value, { at }: { at: number }): [Value, Value] {
  return [...apply(splitOperation, [x], { at })] as [Value, Value];
}
