import { elements } from "../activation.js";
import { computed, expectFixed, expectRank, expectWeight } from "../check.js";
import { apply, type Value } from "../graph.js";
import { bytesOfRows, type Operation } from "../operation.js";
import { type Dimension, tensor } from "../types.js";

/** y[t] = table[ids[t]]: table [V,D], plain or in panels, ids int32 [T] → [T,D]. Gradient: rows summed in the order of t. */
export const embeddingOperation: Operation = {
  name: "embedding",
  infer: ([table, ids]) => {
    const weight = expectWeight("embedding", "table", table, 2);
    const [tokens] = expectRank("embedding", "ids", ids, 1, ["int32"]).shape;
    return [computed(weight, [tokens as Dimension, weight.shape[1] as Dimension])];
  },
  gradient: ({ inputs: [table, ids], gradients: [dy] }) => {
    if (!table || !ids || !dy) return [null, null];
    const rows = expectFixed("embedding", "rows of the table", table.type.shape[0]);
    return [apply(embeddingGradOperation, [dy, ids], { rows })[0] as Value, null];
  },
  bytes: (tensors) => bytesOfRows(tensors, elements(tensors.inputs[1]), [0]),
};

/** dtable [V,D]: row v is the sum of dy[t] over the t with ids[t] = v, zeros where there is none. */
export const embeddingGradOperation: Operation = {
  name: "embedding_grad",
  attributes: ["rows"],
  infer: ([dy], { rows = 0 }) => {
    const { dtype, shape } = expectRank("embedding_grad", "dy", dy, 2, ["float32", "float64"]);
    return [tensor(dtype, [rows, shape[1] as Dimension])];
  },
  flops: ({ inputs: [dy] }) => elements(dy),
};

/** Rows of `table` [V,D] by `ids` int32 [T]: [T,D]. An id outside the table fails the run. */
export function embedding(table: Value, ids: Value): Value {
  return apply(embeddingOperation, [table, ids])[0] as Value;
}
