import { ops, type Value } from "@zaya/kernels";
import type { ZayaConfig } from "../config.js";
import type { Compute } from "./forward.js";

/** Which expert each token went to. */
export interface Routing {
  /** int32 [T]; numExperts stands for the skip class. */
  readonly index: Value;
  /** [T], the probability of the chosen class. */
  readonly prob: Value;
  /** [E+1], tokens of each class in this step. */
  readonly counts: Value;
}

/**
 * Router and experts of one layer (docs: zaya.md section 4): x [T,D] → y [T,D], and the router state r [T,R] for the next layer.
 *
 *   r = x W_down + b + r_previous · scale;   p = softmax(W3 gelu(W2 gelu(W1 norm(r) + b1) + b2)), always in float32
 *   e = argmax(p + balancing bias);          y = p[e] · swiglu_e(x), and 0 for the skip class
 */
export function experts(
  config: ZayaConfig,
  layer: number,
  x_TD: Value,
  previous_TR: Value | null,
  weight: (name: string) => Value,
  compute: Compute,
  generating: boolean,
): { y: Value; r: Value; routing: Routing } {
  const mlp = `model.layers.${layer}.mlp`;
  const gate = (name: string) => weight(`${mlp}.gate.${name}`);
  const layerOf = (x: Value, name: string) => ops.linear(x, gate(`${name}.weight`), { bias: gate(`${name}.bias`) });

  const projected_TR = layerOf(x_TD, "down_proj");
  const r_TR = previous_TR ? ops.residualMerge(projected_TR, previous_TR, { hScale: gate("router_states_scale") }) : projected_TR;
  const normed_TR = ops.rmsNorm(r_TR, gate("router_mlp.norm.weight"), { eps: config.rmsNormEps });
  const hidden_TR = ops.gelu(layerOf(ops.gelu(layerOf(normed_TR, "router_mlp.fc1")), "router_mlp.fc2"));
  const p_TC = ops.softmax(ops.linear(hidden_TR, gate("router_mlp.out_proj.weight")));
  const { index, prob } = ops.selectExpert(p_TC, gate("balancing_biases"));

  const { order, offsets, counts } = ops.expertSort(index, { numExperts: config.numExperts, dtype: prob.type.dtype });
  const routing = { index, prob, counts };
  const [gateUp, down] = [weight(`${mlp}.experts.gate_up_proj`), weight(`${mlp}.experts.down_proj`)];
  // Generation needs no gradient, and takes the composite.
  if (generating) return { y: ops.experts(x_TD, index, prob, gateUp, down, { compute }), r: r_TR, routing };
  const sorted_TD = ops.gatherRows(x_TD, order);
  const inner = ops.swiglu(ops.groupedLinear(sorted_TD, gateUp, offsets, { compute }));
  const out_TD = ops.groupedLinear(inner, down, offsets, { compute });
  return { y: ops.combine(out_TD, order, prob), r: r_TR, routing };
}
