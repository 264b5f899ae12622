import { elements } from "../activation.js";
import { expectShape, floats } from "../check.js";
import { fail } from "../errors.js";
import { apply, type Value } from "../graph.js";
import type { Operation } from "../operation.js";
import { describeType } from "../types.js";

/**
 * p', momentum' from p [.., R, C], g, momentum (one shape, float32), scale [1], hyper [4] = learning rate, momentum, weight decay,
 * nesterov (0 or 1): torch.optim.Muon with the learning rate matched to AdamW's update size, for each matrix of the leading dimensions:
 *   g = g · scale;  momentum' = lerp(momentum, g, 1 − μ);  u = nesterov ? lerp(g, momentum', μ) : momentum'
 *   p' = p (1 − lr · decay) − lr · 0.2 · sqrt(max(R, C)) · NewtonSchulz5(u), the iteration in bfloat16
 */
export const muonOperation: Operation = {
  name: "muon",
  infer: ([p, g, momentum, factor, hyper]) => {
    if (!p || p.shape.length < 2 || p.dtype !== "float32" || p.encoding !== "plain") {
      fail("SHAPE_MISMATCH", `[muon] expected p to be plain float32 [.., R, C], received ${p ? describeType(p) : "nothing"}`);
    }
    for (const [name, other] of [
      ["g", g],
      ["momentum", momentum],
    ] as const)
      expectShape("muon", name, other, p.shape, ["float32"]);
    expectShape("muon", "scale", factor, [1], floats);
    expectShape("muon", "hyper", hyper, [4], floats);
    return [p, p];
  },
  flops: ({ inputs: [p] }) => {
    const [columns = 0, rows = 0] = [...(p ?? [])].reverse();
    const short = Math.min(rows, columns);
    return 5 * elements(p) * 4 * short + (elements(p) === 0 ? 0 : (elements(p) / (rows * columns)) * 5 * 2 * short ** 3);
  },
  inPlace: [
    [0, 0],
    [1, 2],
  ],
};

/** One Muon step of a weight [.., R, C]; `scale` [1] multiplies the gradient first. @throws SHAPE_MISMATCH */
export function muon(p: Value, g: Value, momentum: Value, scale: Value, hyper: Value): { p: Value; momentum: Value } {
  const [nextP, nextMomentum] = apply(muonOperation, [p, g, momentum, scale, hyper]);
  return { p: nextP as Value, momentum: nextMomentum as Value };
}
