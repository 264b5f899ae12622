import { expectActivation } from "../activation.js";
import { expectFixed, expectRank } from "../check.js";
import { fail } from "../errors.js";
import { apply, type Value } from "../graph.js";
import type { Operation } from "../operation.js";

/** The gradient of the balancing bias: counts[e] / Σ counts − 1/E for the E experts, 0 for the skip class (the last). */
export const balanceGradOperation: Operation = {
  name: "balance_grad",
  infer: ([counts]) => {
    const type = expectRank("balance_grad", "counts", expectActivation("balance_grad", "counts", counts), 1);
    const classes = expectFixed("balance_grad", "the number of classes", type.shape[0]);
    if (classes < 2) fail("SHAPE_MISMATCH", `[balance_grad] expected counts of an expert and the skip class at least, received ${classes}`);
    return [type];
  },
};

/** Share of the batch less the fair share, from the counts [E+1] of a whole batch: [E+1], 0 for the skip class. */
export function balanceGrad(counts: Value): Value {
  return apply(balanceGradOperation, [counts])[0] as Value;
}
