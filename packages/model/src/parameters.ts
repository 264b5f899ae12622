import type { DenseConfig, ModelConfig, ZayaConfig } from "./config.js";
import { expectConfig } from "./expect_config.js";

/**
 * embedding, head, matrix, router and expert are matrices; router stands apart because a token's expert hangs on it and its share is small,
 * so it keeps full precision. convolution is the grouped one, a matrix [H,2H] of each group, and keeps it too. vector is everything small:
 * norms, biases, scales, temperatures and the depthwise convolution. balancing is added to the router's probabilities and learns by a rule of
 * its own.
 */
export type ParameterKind = "embedding" | "head" | "matrix" | "router" | "expert" | "convolution" | "vector" | "balancing";

/** How a parameter starts. `near-identity` is a causal convolution of width 2 that passes the current column, plus normal noise. */
type Init =
  | { readonly type: "normal"; readonly std: number }
  | { readonly type: "constant"; readonly value: number }
  | { readonly type: "near-identity"; readonly std: number }
  | { readonly type: "balancing" };

export interface ParameterSpec {
  /** The name in the `transformers` layout, in the store and in the graph. */
  readonly name: string;
  readonly shape: readonly number[];
  readonly kind: ParameterKind;
  /** The block it belongs to; absent for embedding, final norm and head. */
  readonly layer?: number;
  readonly init: Init;
}

const one: Init = { type: "constant", value: 1 };
const zero: Init = { type: "constant", value: 0 };
const normal: Init = { type: "normal", std: 0.02 };

/**
 * Every parameter of a model, in the order in which the forward pass meets them.
 *
 * Matrices start normal with deviation 0.02, what is added to the residual stream by attention with 0.02 / √(2 L). An expert's output is
 * scaled by its probability, about 1 / (E + 1) at the start, so it is not damped again. The router's matrices start with 1 / √columns:
 * three of them follow each other, and with 0.02 its classes would start out all alike. The skip class starts with bias −1.
 *
 * @throws CONFIG_INVALID
 */
export function parameters(config: ModelConfig): readonly ParameterSpec[] {
  expectConfig(config);
  return config.kind === "zaya" ? zayaParameters(config) : denseParameters(config);
}

/** Number of elements of a parameter. */
export function elements({ shape }: { readonly shape: readonly number[] }): number {
  return shape.reduce((product, n) => product * n, 1);
}

function zayaParameters(config: ZayaConfig): ParameterSpec[] {
  const {
    hiddenSize: D,
    numQueryHeads: N,
    numKeyValueHeads: K,
    headDim: H,
    numExperts: E,
    expertSize: F,
    routerSize: R,
    vocabSize: V,
  } = config;
  const C = (N + K) * H;
  const output: Init = { type: "normal", std: 0.02 / Math.sqrt(2 * config.numLayers) };
  const routerFrom = (columns: number): Init => ({ type: "normal", std: 1 / Math.sqrt(columns) });
  const specs: ParameterSpec[] = [
    { name: "model.embed_tokens.weight", shape: [V, D], kind: "embedding", init: normal },
    { name: "model.input_hidden_states_scale", shape: [D], kind: "vector", init: one },
    { name: "model.input_hidden_states_bias", shape: [D], kind: "vector", init: zero },
  ];
  for (let layer = 0; layer < config.numLayers; layer++) {
    const add = (name: string, shape: readonly number[], kind: ParameterKind, init: Init): void => {
      specs.push({ name: `model.layers.${layer}.${name}`, shape, kind, layer, init });
    };
    const residual = (name: string): void => {
      add(`${name}.hidden_states_scale`, [D], "vector", one);
      add(`${name}.hidden_states_bias`, [D], "vector", zero);
      add(`${name}.residual_scale`, [D], "vector", one);
      add(`${name}.residual_bias`, [D], "vector", zero);
    };
    add("input_layernorm.weight", [D], "vector", one);
    add("self_attn.qkv_proj.q_proj.weight", [N * H, D], "matrix", normal);
    add("self_attn.qkv_proj.k_proj.weight", [K * H, D], "matrix", normal);
    add("self_attn.qkv_proj.v_proj_current.weight", [(K * H) / 2, D], "matrix", normal);
    add("self_attn.qkv_proj.v_proj_delayed.weight", [(K * H) / 2, D], "matrix", normal);
    add("self_attn.qkv_proj.conv_qk_depthwise.weight", [C, 1, 2], "vector", { type: "near-identity", std: 0.02 });
    add("self_attn.qkv_proj.conv_qk_depthwise.bias", [C], "vector", zero);
    add("self_attn.qkv_proj.conv_qk_grouped.weight", [C, H, 2], "convolution", { type: "near-identity", std: 0.02 });
    add("self_attn.qkv_proj.conv_qk_grouped.bias", [C], "vector", zero);
    add("self_attn.qk_norm.temp", [K], "vector", one);
    add("self_attn.o_proj.weight", [D, N * H], "matrix", output);
    residual("post_attention_residual_scale");
    add("post_attention_layernorm.weight", [D], "vector", one);
    add("mlp.gate.down_proj.weight", [R, D], "router", routerFrom(D));
    add("mlp.gate.down_proj.bias", [R], "vector", zero);
    if (layer > 0) add("mlp.gate.router_states_scale", [R], "vector", one);
    add("mlp.gate.router_mlp.norm.weight", [R], "vector", one);
    add("mlp.gate.router_mlp.fc1.weight", [R, R], "router", routerFrom(R));
    add("mlp.gate.router_mlp.fc1.bias", [R], "vector", zero);
    add("mlp.gate.router_mlp.fc2.weight", [R, R], "router", routerFrom(R));
    add("mlp.gate.router_mlp.fc2.bias", [R], "vector", zero);
    add("mlp.gate.router_mlp.out_proj.weight", [E + 1, R], "router", routerFrom(R));
    add("mlp.gate.balancing_biases", [E + 1], "balancing", { type: "balancing" });
    add("mlp.experts.gate_up_proj", [E, 2 * F, D], "expert", normal);
    add("mlp.experts.down_proj", [E, D, F], "expert", normal);
    residual("post_mlp_residual_scale");
  }
  specs.push({ name: "model.norm.weight", shape: [D], kind: "vector", init: one });
  if (!config.tieWordEmbeddings) specs.push({ name: "lm_head.weight", shape: [V, D], kind: "head", init: normal });
  if (config.lmHeadBias) specs.push({ name: "lm_head.bias", shape: [V], kind: "vector", init: zero });
  return specs;
}

function denseParameters(config: DenseConfig): ParameterSpec[] {
  const { hiddenSize: D, numQueryHeads: N, numKeyValueHeads: K, headDim: H, ffnSize: F, vocabSize: V } = config;
  const output: Init = { type: "normal", std: 0.02 / Math.sqrt(2 * config.numLayers) };
  const specs: ParameterSpec[] = [{ name: "model.embed_tokens.weight", shape: [V, D], kind: "embedding", init: normal }];
  for (let layer = 0; layer < config.numLayers; layer++) {
    const add = (name: string, shape: readonly number[], kind: ParameterKind, init: Init): void => {
      specs.push({ name: `model.layers.${layer}.${name}`, shape, kind, layer, init });
    };
    add("input_layernorm.weight", [D], "vector", one);
    add("self_attn.q_proj.weight", [N * H, D], "matrix", normal);
    add("self_attn.k_proj.weight", [K * H, D], "matrix", normal);
    add("self_attn.v_proj.weight", [K * H, D], "matrix", normal);
    add("self_attn.o_proj.weight", [D, N * H], "matrix", output);
    add("post_attention_layernorm.weight", [D], "vector", one);
    add("mlp.gate_proj.weight", [F, D], "matrix", normal);
    add("mlp.up_proj.weight", [F, D], "matrix", normal);
    add("mlp.down_proj.weight", [D, F], "matrix", output);
  }
  specs.push({ name: "model.norm.weight", shape: [D], kind: "vector", init: one });
  if (!config.tieWordEmbeddings) specs.push({ name: "lm_head.weight", shape: [V, D], kind: "head", init: normal });
  return specs;
}
