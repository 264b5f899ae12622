import { expectActivation } from "../activation.js";
import { expectShape, floats } from "../check.js";
import { apply, type Value } from "../graph.js";
import type { Operation } from "../operation.js";

/** [1] = min(1, max_norm / norm) / divisor, norm = sqrt(sum_of_squares) / divisor; max_norm = 0: 1 / divisor. */
export const clipScaleOperation: Operation = {
  name: "clip_scale",
  attributes: ["max_norm"],
  infer: ([sumOfSquares, divisor]) => {
    expectShape("clip_scale", "sum_of_squares", sumOfSquares, [1]);
    expectShape("clip_scale", "divisor", divisor, [1], floats);
    return [expectActivation("clip_scale", "sum_of_squares", sumOfSquares)];
  },
};

/**
 * The factor for a gradient that is a sum over `divisor` [1] tokens: divides it, and limits the norm of the result to `maxNorm`
 * (0 = no limit). `sumOfSquares` [1] is that of the undivided gradient.
 */
export function clipScale(sumOfSquares: Value, divisor: Value, { maxNorm }: { maxNorm: number }): Value {
  return apply(clipScaleOperation, [sumOfSquares, divisor], { max_norm: maxNorm })[0] as Value;
}
