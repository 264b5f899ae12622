import { expectActivation } from "../activation.js";
import { expectShape } from "../check.js";
import { ZayaError } from "../errors.js";
import { apply, type Value } from "../graph.js";
import type { Operation } from "../operation.js";
import { type Dimension, tensor } from "../types.js";
import { slice } from "./slice.js";

/** y [T,A+B] = a [T,A] beside b [T,B]. */
export const concatOperation: Operation = {
  name: "concat",
  infer: ([a, b]) => {
    const left = expectActivation("concat", "a", a);
    const columns = b?.shape.at(-1);
    expectShape("concat", "b", b, [...left.shape.slice(0, -1), columns as Dimension], [left.dtype]);
    return [tensor(left.dtype, [...left.shape.slice(0, -1), lastFixed(left.shape) + lastFixed(b?.shape ?? [])])];
  },
  gradient: ({ inputs: [a, b], gradients: [dy], wants }) => {
    if (!a || !b || !dy) return [null, null];
    const [left, right] = [lastFixed(a.type.shape), lastFixed(b.type.shape)];
    return [wants(0) ? slice(dy, { begin: 0, end: left }) : null, wants(1) ? slice(dy, { begin: left, end: left + right }) : null];
  },
};

/** a and b side by side along the last axis: [T,A] and [T,B] → [T,A+B]. */
export function concat(a: Value, b: Value): Value {
  return apply(concatOperation, [a, b])[0] as Value;
}

function lastFixed(shape: readonly Dimension[]): number {
  const last = shape.at(-1);
  if (typeof last !== "number")
    throw new ZayaError("SHAPE_MISMATCH", `[concat] expected a fixed number of columns, received ${last?.name ?? "nothing"}`);
  return last;
}
