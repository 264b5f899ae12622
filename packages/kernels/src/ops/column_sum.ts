import { expectActivation } from "../activation.js";
import { expectRank } from "../check.js";
import { apply, type Value } from "../graph.js";
import type { Operation } from "../operation.js";
import { type Dimension, tensor } from "../types.js";

/** y[n] = Σ_t x[t,n] in float32 (float64 for float64), in fixed chunks of rows: the gradient of a bias. */
export const columnSumOperation: Operation = {
  name: "column_sum",
  infer: ([x]) => {
    const { dtype, shape } = expectRank("column_sum", "x", expectActivation("column_sum", "x", x), 2);
    return [tensor(dtype, [shape[1] as Dimension])];
  },
  flops: ({ outputs, inputs }) => (inputs[0]?.[0] ?? 0) * (outputs[0]?.[0] ?? 0),
};

/** Sums the rows of x [T,N] → [N]. */
export function columnSum(x: Value): Value {
  return apply(columnSumOperation, [x])[0] as Value;
}
