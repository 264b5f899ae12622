import { elements } from "../activation.js";
import { expectRank } from "../check.js";
import { apply, type Value } from "../graph.js";
import type { Operation } from "../operation.js";
import { type Dimension, tensor } from "../types.js";
import { scatterRows } from "./scatter_rows.js";

/** y[i] = x[rows[i]]: x [T,D], plain or int8 rows, rows int32 [R] → [R,D]. */
export const gatherRowsOperation: Operation = {
  name: "gather_rows",
  infer: ([x, rows]) => {
    const { dtype, shape, encoding } = expectRank("gather_rows", "x", x, 2);
    const { shape: wanted } = expectRank("gather_rows", "rows", rows, 1, ["int32"]);
    return [tensor(dtype, [wanted[0] as Dimension, shape[1] as Dimension], encoding)];
  },
  gradient: ({ inputs: [x, rows], gradients: [dy] }) => [x && rows && dy ? scatterRows(dy, rows, x) : null, null],
  bytes: ({ outputs: [y] }) => 8 * elements(y),
};

/** Rows of x [T,D] by number: [R,D]. A number outside x fails the run. */
export function gatherRows(x: Value, rows: Value): Value {
  return apply(gatherRowsOperation, [x, rows])[0] as Value;
}
