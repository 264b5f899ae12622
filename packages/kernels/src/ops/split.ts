import { apply, type Value } from "../graph.js";
import type { Operation } from "../operation.js";
import type { TensorType } from "../types.js";
import { cast } from "./cast.js";
import { concat } from "./concat.js";
import { slice, sliceGrad, sliceOperation } from "./slice.js";

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
  gradient: ({ node, inputs: [x], gradients: [left, right] }) => {
    if (left && right) return [concat(widened(left), widened(right))];
    const [at, end] = [node.attributes.at ?? 0, Number(x?.type.shape.at(-1))];
    if (x && left) return [sliceGrad(left, x, { begin: 0, end: at })];
    if (x && right) return [sliceGrad(right, x, { begin: at, end })];
    return [null];
  },
};

/** A gradient in a type that `concat` takes. */
function widened(dy: Value): Value {
  return dy.type.dtype === "bfloat16" ? cast(dy, "float32") : dy;
}

/** Columns before and from `at` on of the last axis. @throws SHAPE_MISMATCH; INVALID_ARGUMENT for a fraction */
export function split(x: Value, { at }: { at: number }): [Value, Value] {
  return [...apply(splitOperation, [x], { at })] as [Value, Value];
}
