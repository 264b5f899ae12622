import { elements, expectActivation } from "../activation.js";
import { expectRank, expectShape } from "../check.js";
import { apply, type Value } from "../graph.js";
import { type Operation, wholeBytes } from "../operation.js";
import { type Dimension, type TensorType, tensor } from "../types.js";
import { gatherRows } from "./gather_rows.js";

/** y[t] = Σ of dy[i] over the i with rows[i] = t, in their order: dy [R,D], rows int32 [R], like [T,D] (shape only) → [T,D]. */
export const scatterRowsOperation: Operation = {
  name: "scatter_rows",
  infer: ([dy, rows, like]) => {
    const type = expectActivation("scatter_rows", "dy", dy);
    const { shape } = expectRank("scatter_rows", "rows", rows, 1, ["int32"]);
    const target = expectRank("scatter_rows", "like", like, 2) as TensorType;
    expectShape("scatter_rows", "dy", type, [shape[0] as Dimension, target.shape[1] as Dimension]);
    return [tensor(type.dtype, target.shape)];
  },
  gradient: ({ inputs: [, rows], gradients: [dy] }) => [rows && dy ? gatherRows(dy, rows) : null, null, null],
  flops: ({ inputs: [dy] }) => elements(dy),
  bytes: (tensors) => wholeBytes(tensors) - (tensors.inputBytes[2] ?? 0),
};

/** Adds the rows of dy [R,D] into zeros of the shape of `like` [T,D], row i into row rows[i]. */
export function scatterRows(dy: Value, rows: Value, like: Value): Value {
  return apply(scatterRowsOperation, [dy, rows, like])[0] as Value;
}
