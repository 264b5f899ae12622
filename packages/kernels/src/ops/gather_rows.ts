import { elements } from "../activation.js";
import { expectRank } from "../check.js";
import { fail } from "../errors.js";
import { apply, type Value } from "../graph.js";
import { bytesOfRows, type Operation } from "../operation.js";
import { type Dimension, describeType, tensor } from "../types.js";
import { scatterRows } from "./scatter_rows.js";

/** y[i] = x[rows[i]]: x [T,D], plain or int8 rows, rows int32 [R] → [R,D]. */
export const gatherRowsOperation: Operation = {
  name: "gather_rows",
  infer: ([x, rows]) => {
    const source = expectRank("gather_rows", "x", x, 2);
    const { dtype, shape, encoding } = source;
    if (encoding === "panels")
      fail("SHAPE_MISMATCH", `[gather_rows] expected x to be plain or int8 rows, received ${describeType(source)}`);
    const { shape: wanted } = expectRank("gather_rows", "rows", rows, 1, ["int32"]);
    return [tensor(dtype, [wanted[0] as Dimension, shape[1] as Dimension], encoding)];
  },
  gradient: ({ inputs: [x, rows], gradients: [dy] }) => [x && rows && dy ? scatterRows(dy, rows, x) : null, null],
  bytes: (tensors) => bytesOfRows(tensors, elements(tensors.inputs[1]), [0]),
};

/** Rows of x [T,D] by number: [R,D]. A number outside x fails the run. */
export function gatherRows(x: Value, rows: Value): Value {
  return apply(gatherRowsOperation, [x, rows])[0] as Value;
}
