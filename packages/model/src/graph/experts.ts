import { isQuantised, ops, type Value } from "@zaya/kernels";
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

const expertName = (layer: number, name: "gate_up_proj" | "down_proj") => `model.layers.${layer}.mlp.experts.${name}`;

/** The forms of the rows that {@link experts} takes: float32 for the router, int8 too where the experts are quantised. */
export function expertsForm(layer: number, weight: (name: string) => Value): ops.RowForm {
  return isQuantised(weight(expertName(layer, "gate_up_proj")).type) ? "both" : "float32";
}

/**
 * Router and experts of one layer (ZAYA1 report, arXiv 2511.17127): x [T,D] → y [T,D], and the router state r [T,R] for the next layer. The router takes x as
 * `normed`, the experts as `rows`.
 *
 *   r = x W_down + b + r_previous · scale;   p = softmax(W3 gelu(W2 gelu(W1 norm(r) + b1) + b2)), always in float32
 *   e = argmax(p + balancing bias);          y = p[e] · swiglu_e(x), and 0 for the skip class
 */
export function experts(
  config: ZayaConfig,
  layer: number,
  { normed, rows }: { readonly normed: Value; readonly rows: Value },
  previous_TR: Value | null,
  weight: (name: string) => Value,
  compute: Compute,
  generating: boolean,
): { y: Value; r: Value; routing: Routing } {
  const mlp = `model.layers.${layer}.mlp`;
  const gate = (name: string) => weight(`${mlp}.gate.${name}`);
  const { r, index, prob } = generating
    ? ops.router(normed, previous_TR && { r: previous_TR, scale: gate("router_states_scale") }, routerWeights(gate), {
        eps: config.rmsNormEps,
      })
    : route(config, normed, previous_TR, gate, compute);

  const dtype = prob.type.dtype === "float64" ? "float64" : "float32";
  const { order, offsets, counts } = ops.expertSort(index, { numExperts: config.numExperts, dtype });
  const routing = { index, prob, counts };
  const [gateUp, down] = [weight(expertName(layer, "gate_up_proj")), weight(expertName(layer, "down_proj"))];
  // Generation needs no gradient, and takes the composite.
  if (generating) return { y: ops.experts(rows, index, prob, gateUp, down, { compute }), r, routing };
  const sorted_TD = ops.gatherRows(rows, order);
  const inner = ops.swiglu(ops.groupedLinear(sorted_TD, gateUp, offsets, { compute }));
  const out_TD = ops.groupedLinear(inner, down, offsets, { compute });
  return { y: ops.combine(out_TD, order, prob), r, routing };
}

function routerWeights(gate: (name: string) => Value): ops.RouterWeights {
  return {
    downWeight: gate("down_proj.weight"),
    downBias: gate("down_proj.bias"),
    normWeight: gate("router_mlp.norm.weight"),
    fc1Weight: gate("router_mlp.fc1.weight"),
    fc1Bias: gate("router_mlp.fc1.bias"),
    fc2Weight: gate("router_mlp.fc2.weight"),
    fc2Bias: gate("router_mlp.fc2.bias"),
    outWeight: gate("router_mlp.out_proj.weight"),
    balancing: gate("balancing_biases"),
  };
}

/** The router in operations that have gradients. What it decides by is float32; its gradients are computed like those of the experts. */
function route(
  { rmsNormEps: eps }: ZayaConfig,
  x_TD: Value,
  previous_TR: Value | null,
  gate: (name: string) => Value,
  gradientCompute: Compute,
): { r: Value; index: Value; prob: Value } {
  const layerOf = (x: Value, name: string) => ops.linear(x, gate(`${name}.weight`), { bias: gate(`${name}.bias`), gradientCompute });
  const projected_TR = layerOf(x_TD, "down_proj");
  const r = previous_TR ? ops.residualMerge(projected_TR, previous_TR, { hScale: gate("router_states_scale") }) : projected_TR;
  const normed_TR = ops.rmsNorm(r, gate("router_mlp.norm.weight"), { eps });
  const hidden_TR = ops.gelu(layerOf(ops.gelu(layerOf(normed_TR, "router_mlp.fc1")), "router_mlp.fc2"));
  const p_TC = ops.softmax(ops.linear(hidden_TR, gate("router_mlp.out_proj.weight"), { gradientCompute }));
  return { r, ...ops.selectExpert(p_TC, gate("balancing_biases")) };
}
