import { elements, expectActivation } from "../activation.js";
import { expectFixed, expectRank, expectShape } from "../check.js";
import { ZayaError } from "../errors.js";
import { apply, type Value } from "../graph.js";
import type { Operation } from "../operation.js";
import type { Dimension } from "../types.js";

/**
 * Rotary embedding of the first P = rotary dimensions of each head, the rest passes: x [T,heads,H], positions int32 [T]. For j < P/2,
 *   angle = position · theta^(−2j/P),  y[j] = x[j] cos − x[j+P/2] sin,  y[j+P/2] = x[j+P/2] cos + x[j] sin.
 * Angles are float32 whatever the type of x. inverse 1 turns the other way, which is the gradient.
 */
export const ropeOperation: Operation = {
  name: "rope",
  attributes: ["rotary", "theta", "inverse"],
  infer: ([x, positions], { rotary = 0, theta = 0 }) => {
    const type = expectRank("rope", "x", expectActivation("rope", "x", x), 3);
    const head = expectFixed("rope", "the head size", type.shape[2]);
    expectShape("rope", "positions", expectRank("rope", "positions", positions, 1, ["int32"]), [type.shape[0] as Dimension]);
    if (!Number.isInteger(rotary) || rotary < 0 || rotary > head || rotary % 2 !== 0) {
      throw new ZayaError("INVALID_ARGUMENT", `[rope] expected an even number of rotary dimensions up to ${head}, received ${rotary}`);
    }
    if (!(theta > 0)) throw new ZayaError("INVALID_ARGUMENT", `[rope] expected theta above 0, received ${theta}`);
    return [type];
  },
  gradient: ({ node, inputs: [, positions], gradients: [dy] }) => {
    if (!positions || !dy) return [null, null];
    const { rotary = 0, theta = 0, inverse = 0 } = node.attributes;
    return [apply(ropeOperation, [dy, positions], { rotary, theta, inverse: inverse === 0 ? 1 : 0 })[0] as Value, null];
  },
  flops: ({ inputs: [x] }, { rotary = 0 }) => (3 * elements(x) * rotary) / Math.max(1, x?.[2] ?? 1),
  inPlace: [[0, 0]],
};

/**
 * Rotates the first `rotary` dimensions of each head of x [T,heads,H] by its position: pairs (j, j + rotary/2).
 *
 * @throws SHAPE_MISMATCH; INVALID_ARGUMENT for an odd or too large `rotary`, or theta ≤ 0
 */
export function rope(x: Value, positions: Value, { rotary, theta }: { rotary: number; theta: number }): Value {
  return apply(ropeOperation, [x, positions], { rotary, theta, inverse: 0 })[0] as Value;
}
