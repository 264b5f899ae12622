import { elements, expectActivation } from "../activation.js";
import { expectShape, floats } from "../check.js";
import { apply, type Value } from "../graph.js";
import type { Operation } from "../operation.js";

/**
 * p', m', v' from p, g, m, v (one shape), scale [1], hyper [6] = learning rate, beta1, beta2, eps, weight decay, step ≥ 1:
 *   g = g · scale;  m' = m + (g − m)(1 − beta1);  v' = v · beta2 + g²(1 − beta2)
 *   p' = p (1 − lr · decay) − lr / (1 − beta1^step) · m' / (sqrt(v') / sqrt(1 − beta2^step) + eps)         (torch.optim.AdamW)
 */
export const adamwOperation: Operation = {
  name: "adamw",
  infer: ([p, g, m, v, factor, hyper]) => {
    const type = expectActivation("adamw", "p", p);
    for (const [name, other] of [
      ["g", g],
      ["m", m],
      ["v", v],
    ] as const)
      expectShape("adamw", name, other, type.shape, [type.dtype]);
    expectShape("adamw", "scale", factor, [1], floats);
    expectShape("adamw", "hyper", hyper, [6], floats);
    return [type, type, type];
  },
  flops: ({ inputs: [p] }) => 14 * elements(p),
  inPlace: [
    [0, 0],
    [1, 2],
    [2, 3],
  ],
};

/** One AdamW step of a parameter; `scale` [1] multiplies the gradient first. `hyper` may be float32 or float64. */
export function adamw(p: Value, g: Value, m: Value, v: Value, scale: Value, hyper: Value): { p: Value; m: Value; v: Value } {
  const [nextP, nextM, nextV] = apply(adamwOperation, [p, g, m, v, scale, hyper]);
  return { p: nextP as Value, m: nextM as Value, v: nextV as Value };
}
