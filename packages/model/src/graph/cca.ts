import { type Graph, isQuantised, ops, type Value } from "@zaya/kernels";
import type { ZayaConfig } from "../config.js";
import { cachedAttention } from "./cached_attention.js";
import type { Compute } from "./forward.js";
import { cacheTensors, type RaggedInputs } from "./inputs.js";

const projections = ["q_proj", "k_proj", "v_proj_current", "v_proj_delayed"] as const;
const projectionName = (layer: number, name: (typeof projections)[number]) => `model.layers.${layer}.self_attn.qkv_proj.${name}.weight`;

/** The form of the rows that {@link cca} takes: int8 where all its projections are quantised. */
export function ccaForm(layer: number, weight: (name: string) => Value): ops.RowForm {
  return projections.every((name) => isQuantised(weight(projectionName(layer, name)).type)) ? "int8" : "float32";
}

/**
 * Compressed convolutional attention of one layer, x [T,D] → [T,D] before the residual merge (arXiv 2510.04476).
 *
 *   z = concat(x Wq, x Wk); q, k = qk_mean_and_norm(z, conv(conv(z)));  v = concat(x[t] Wv_current, x[t−1] Wv_delayed)
 *   y = attention(rope(q), rope(k), v) Wo
 */
export function cca(
  graph: Graph,
  config: ZayaConfig,
  layer: number,
  x_TD: Value,
  weight: (name: string) => Value,
  inputs: RaggedInputs,
  compute: Compute,
): Value {
  const { numQueryHeads: N, numKeyValueHeads: K, headDim: H } = config;
  const { cuSeqlens, positions, cache } = inputs;
  const attention = `model.layers.${layer}.self_attn`;
  const conv = (part: string) => weight(`${attention}.qkv_proj.conv_qk_${part}`);
  const sliding = config.layerTypes[layer] === "sliding";
  const { theta, rotaryDim: rotary } = sliding ? config.rope.sliding : config.rope.full;
  const state = cache && cacheTensors(config, cache)[layer];

  const [q, k, current, delayed] = projections.map((name) => weight(projectionName(layer, name))) as [Value, Value, Value, Value];
  const convolutions = {
    depthwiseWeight: conv("depthwise.weight"),
    depthwiseBias: conv("depthwise.bias"),
    groupedWeight: conv("grouped.weight"),
    groupedBias: conv("grouped.bias"),
  };
  const temp = weight(`${attention}.qk_norm.temp`);
  const mix = { queryHeads: N, clampTemp: config.clampTemp, rotary, theta };
  let heads: { readonly q: Value; readonly k: Value; readonly v: Value };
  if (cache && state) {
    const { slots, cached } = cache;
    const states = { convState: graph.read(state.conv.name, state.conv.type), delayState: graph.read(state.delay.name, state.delay.type) };
    const rows = { ...ops.ccaProject(x_TD, { q, k, current, delayed }, { compute }), positions, cuSeqlens, slots, cached };
    const { convTail, delayTail, ...made } = ops.ccaHeads({ ...rows, ...convolutions, temp, ...states }, mix);
    graph.assign(state.conv.name, ops.carryState(states.convState, convTail, cuSeqlens, slots));
    graph.assign(state.delay.name, ops.carryState(states.delayState, delayTail, cuSeqlens, slots));
    heads = made;
  } else {
    const { depthwiseWeight, depthwiseBias, groupedWeight, groupedBias } = convolutions;
    const [z_TC, current_TW, delayed_TW] = projectAll(x_TD, [q, k, current, delayed], compute);
    const mixed_TC = ops.ccaConv(z_TC, depthwiseWeight, depthwiseBias, groupedWeight, groupedBias, cuSeqlens);
    const mixed = ops.ccaQk(z_TC, mixed_TC, temp, mix);
    const rotate = (x: Value) => ops.rope(x, positions, { rotary, theta });
    const v_TKH = ops.reshape(ops.valueDelay(current_TW, delayed_TW, cuSeqlens), [inputs.T, K, H]);
    heads = { q: rotate(mixed.q), k: rotate(mixed.k), v: v_TKH };
  }
  const mask = { scale: 1 / Math.sqrt(H), window: sliding ? (config.slidingWindow ?? 0) : 0 };
  const o_TNH = cachedAttention(graph, config, layer, heads, inputs, mask, compute);
  return ops.linear(ops.reshape(o_TNH, [inputs.T, N * H]), weight(`${attention}.o_proj.weight`), { compute });
}

/**
 * z = concat(x Wq, x Wk), x Wv_current and x Wv_delayed. Plain weights, those of training, are put one below the other first: one product takes
 * x once, as do its two gradients.
 */
function projectAll(x_TD: Value, weights: readonly [Value, Value, Value, Value], compute: Compute): readonly [Value, Value, Value] {
  if (weights.some(({ type }) => type.encoding !== "plain" || type.dtype === "bfloat16")) {
    const [q, k, current, delayed] = weights.map((w) => ops.linear(x_TD, w, { compute })) as [Value, Value, Value, Value];
    return [ops.concat(q, k), current, delayed];
  }
  const [NH, KH, W] = weights.map(({ type }) => Number(type.shape[0])) as [number, number, number, number];
  const D = Number(x_TD.type.shape[1]);
  const flat = weights.map((w) => ops.reshape(w, [1, Number(w.type.shape[0]) * D])) as [Value, Value, Value, Value];
  const rows = ops.concat(ops.concat(flat[0], flat[1]), ops.concat(flat[2], flat[3]));
  const [z_TC, v] = ops.split(ops.linear(x_TD, ops.reshape(rows, [NH + KH + 2 * W, D]), { compute }), {
    at: NH + KH,
  });
  return [z_TC, ...ops.split(v, { at: W })];
}
