import { elements } from "../activation.js";
import { computed, expectRank, expectWeight } from "../check.js";
import { apply, type Value } from "../graph.js";
import { bytesOfRows, type Operation } from "../operation.js";
import type { Dimension } from "../types.js";
import { scatterRows } from "./scatter_rows.js";

/** y[t] = table[ids[t]]: table [V,D], plain or in panels, ids int32 [T] → [T,D]. Gradient: rows summed in the order of t. */
export const embeddingOperation: Operation = {
  name: "embedding",
  infer: ([table, ids]) => {
    const weight = expectWeight("embedding", "table", table, 2);
    const [tokens] = expectRank("embedding", "ids", ids, 1, ["int32"]).shape;
    return [computed(weight, [tokens as Dimension, weight.shape[1] as Dimension])];
  },
  gradient: ({ inputs: [table, ids], gradients: [dy] }) => [table && ids && dy ? scatterRows(dy, ids, table) : null, null],
  bytes: (tensors) => bytesOfRows(tensors, elements(tensors.inputs[1]), [0]),
};

/** Rows of `table` [V,D] by `ids` int32 [T]: [T,D]. An id outside the table fails the run. */
export function embedding(table: Value, ids: Value): Value {
  return apply(embeddingOperation, [table, ids])[0] as Value;
}
