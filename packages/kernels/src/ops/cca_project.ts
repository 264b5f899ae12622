import { elements, expectRows } from "../activation.js";
import { computed, expectFixed, expectShape, expectWeight } from "../check.js";
import { apply, type Value } from "../graph.js";
import type { Operation } from "../operation.js";
import type { Dimension, TensorType } from "../types.js";
import { concat } from "./concat.js";
import { computeAttribute, type LinearOptions, linear } from "./linear.js";

/**
 * The projections of compressed convolutional attention, for generation: x [T,D], q_w [NH,D], k_w [KH,D], current_w, delayed_w [W,D]
 * → z [T,(N+K)H] = concat(x q_wᵀ, x k_wᵀ), current [T,W] = x current_wᵀ, delayed [T,W] = x delayed_wᵀ. compute as in linear; where all weights are in quantised
 * panels x may be int8 rows.
 */
export const ccaProjectOperation: Operation = {
  name: "cca_project",
  attributes: ["compute"],
  infer: ([x, qW, kW, currentW, delayedW]) => {
    const [T, D] = expectRows("cca_project", "x", x, [qW, kW, currentW, delayedW]).shape as [Dimension, Dimension];
    const rows = (what: string, w: TensorType | null | undefined) =>
      expectFixed("cca_project", `rows of ${what}`, expectWeight("cca_project", what, w, 2).shape[0]);
    for (const [name, w] of Object.entries({ q_w: qW, k_w: kW, current_w: currentW, delayed_w: delayedW }))
      expectShape("cca_project", name, w, [rows(name, w), D]);
    const result = (columns: number) => computed(x as TensorType, [T, columns]);
    return [result(rows("q_w", qW) + rows("k_w", kW)), result(rows("current_w", currentW)), result(rows("delayed_w", delayedW))];
  },
  decompose: ([x, ...weights], { compute = 0 }) => {
    const [q, k, current, delayed] = weights.map((w) =>
      linear(x as Value, w as Value, { compute: compute === 1 ? "bfloat16" : "float32" }),
    ) as readonly Value[] as readonly [Value, Value, Value, Value];
    return [concat(q, k), current, delayed];
  },
  flops: ({ inputs: [x, ...weights] }) => 2 * (x?.[0] ?? 0) * weights.reduce((sum, w) => sum + elements(w), 0),
};

/** Queries beside keys z [T,C], and the values of this token and for the next [T,W], from x [T,D]. @throws SHAPE_MISMATCH */
export function ccaProject(
  x: Value,
  weights: { readonly q: Value; readonly k: Value; readonly current: Value; readonly delayed: Value },
  options: LinearOptions = {},
): { z: Value; current: Value; delayed: Value } {
  const { q, k, current: currentW, delayed: delayedW } = weights;
  const [z, current, delayed] = apply(ccaProjectOperation, [x, q, k, currentW, delayedW], computeAttribute(options));
  return { z: z as Value, current: current as Value, delayed: delayed as Value };
}
