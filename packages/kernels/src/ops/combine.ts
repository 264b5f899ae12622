import { elements, expectActivation } from "../activation.js";
import { expectRank, expectShape } from "../check.js";
import { apply, type Value } from "../graph.js";
import type { Operation } from "../operation.js";
import type { TensorType } from "../types.js";

/** y[order[i]] = prob[order[i]] · y_sorted[i]: y_sorted [T,D], order int32 [T] (a permutation), prob [T] → [T,D]. */
export const combineOperation: Operation = {
  name: "combine",
  infer: ([sorted, order, prob]) => {
    const type = expectRank("combine", "y_sorted", expectActivation("combine", "y_sorted", sorted), 2);
    expectShape("combine", "order", expectRank("combine", "order", order, 1, ["int32"]), type.shape.slice(0, 1));
    expectShape("combine", "prob", expectRank("combine", "prob", prob, 1, [type.dtype]), type.shape.slice(0, 1));
    return [type];
  },
  gradient: ({ inputs: [sorted, order, prob], gradients: [dy] }) => {
    if (!sorted || !order || !prob || !dy) return [null, null, null];
    const [dsorted, dprob] = apply(combineGradOperation, [dy, sorted, order, prob]);
    return [dsorted as Value, null, dprob as Value];
  },
  flops: ({ inputs: [sorted] }) => elements(sorted),
};

/** dy_sorted [T,D], dprob [T] from dy, y_sorted, order, prob. */
export const combineGradOperation: Operation = {
  name: "combine_grad",
  infer: ([dy, sorted, order, prob]) => {
    const [type] = combineOperation.infer([sorted ?? null, order ?? null, prob ?? null], {}) as [TensorType];
    expectShape("combine_grad", "dy", dy, type.shape, [type.dtype]);
    return [type, expectActivation("combine_grad", "prob", prob)];
  },
  flops: ({ inputs: [dy] }) => 3 * elements(dy),
  inPlace: [[0, 1]],
};

/** Puts the experts' rows back in the order of the tokens, each times the probability of its expert. */
export function combine(sorted: Value, order: Value, prob: Value): Value {
  return apply(combineOperation, [sorted, order, prob])[0] as Value;
}
