import { type Graph, ops, type Value } from "@zaya/kernels";
import type { ZayaConfig } from "../config.js";
import { cachedAttention } from "./cached_attention.js";
import type { Compute } from "./forward.js";
import { cacheTensors, type RaggedInputs } from "./inputs.js";

/**
 * Compressed convolutional attention of one layer, x [T,D] → [T,D] before the residual merge (docs: zaya.md section 3).
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
  const project = (name: string) => ops.linear(x_TD, weight(`${attention}.qkv_proj.${name}.weight`), { compute });
  const state = cache && cacheTensors(config, cache)[layer];

  const z_TC = ops.concat(project("q_proj"), project("k_proj"));
  const conv = (part: string) => weight(`${attention}.qkv_proj.${part}`);
  const convState = state ? graph.read(state.conv.name, state.conv.type) : null;
  const mixed_TC = ops.ccaConv(
    z_TC,
    conv("conv_qk_depthwise.weight"),
    conv("conv_qk_depthwise.bias"),
    conv("conv_qk_grouped.weight"),
    conv("conv_qk_grouped.bias"),
    cuSeqlens,
    cache && convState ? { state: convState, slots: cache.slots, cached: cache.cached } : undefined,
  );
  const { q, k } = ops.ccaQk(z_TC, mixed_TC, weight(`${attention}.qk_norm.temp`), { queryHeads: N, clampTemp: config.clampTemp });

  const delayed_TW = project("v_proj_delayed");
  const delayState = state ? graph.read(state.delay.name, state.delay.type) : null;
  const v_TKH = ops.reshape(
    ops.valueDelay(
      project("v_proj_current"),
      delayed_TW,
      cuSeqlens,
      cache && delayState ? { state: delayState, slots: cache.slots, cached: cache.cached } : undefined,
    ),
    [inputs.T, K, H],
  );
  if (cache && state && convState && delayState) {
    graph.assign(state.conv.name, ops.carryState(convState, z_TC, cuSeqlens, cache.slots, cache.cached));
    graph.assign(state.delay.name, ops.carryState(delayState, delayed_TW, cuSeqlens, cache.slots, cache.cached));
  }

  const sliding = config.layerTypes[layer] === "sliding";
  const { theta, rotaryDim } = sliding ? config.rope.sliding : config.rope.full;
  const rotate = (heads: Value) => ops.rope(heads, positions, { rotary: rotaryDim, theta });
  const mask = { scale: 1 / Math.sqrt(H), window: sliding ? (config.slidingWindow ?? 0) : 0 };
  const o_TNH = cachedAttention(graph, config, layer, { q: rotate(q), k: rotate(k), v: v_TKH }, inputs, mask);
  return ops.linear(ops.reshape(o_TNH, [inputs.T, N * H]), weight(`${attention}.o_proj.weight`), { compute });
}
