import type { ZayaConfig } from "./config.js";
import { type ParameterSpec, parameters } from "./parameters.js";

/**
 * The `original` checkpoint layout: even layers are attention halves, odd layers expert halves, experts lie apart.
 *
 *   transformers, block b                      original
 *   input_layernorm, self_attn                 layers.{2b}.input_norm, self_attn
 *   post_attention_layernorm, mlp              layers.{2b+1}.input_norm, zaya_block
 *   post_attention_residual_scale              layers.{2b+1}.res_scale        (a half scales what it receives)
 *   post_mlp_residual_scale                    layers.{2b+2}.res_scale, of the last block model.res_scale
 *   model.input_hidden_states_{scale,bias}     layers.0.res_scale.hidden_states_{scale,bias}
 *   model.norm                                 model.final_norm
 *   mlp.experts.{gate_up,down}_proj [E, …]     E tensors local_experts.{e}.linear_fc{1,2}.weight
 */
export interface OriginalSource {
  /** One tensor, or the experts in order, to be stacked along a new first axis. */
  readonly names: readonly string[];
  /** The shape of each of them. */
  readonly shape: readonly number[];
}

const attention = new Map([
  ["input_layernorm.weight", "input_norm.weight"],
  ["self_attn.qkv_proj.q_proj.weight", "self_attn.qkv.linear_q.weight"],
  ["self_attn.qkv_proj.k_proj.weight", "self_attn.qkv.linear_k.weight"],
  ["self_attn.qkv_proj.v_proj_current.weight", "self_attn.qkv.val_proj1.weight"],
  ["self_attn.qkv_proj.v_proj_delayed.weight", "self_attn.qkv.val_proj2.weight"],
  ["self_attn.qkv_proj.conv_qk_depthwise.weight", "self_attn.qkv.conv_qk.0.weight"],
  ["self_attn.qkv_proj.conv_qk_depthwise.bias", "self_attn.qkv.conv_qk.0.bias"],
  ["self_attn.qkv_proj.conv_qk_grouped.weight", "self_attn.qkv.conv_qk.1.weight"],
  ["self_attn.qkv_proj.conv_qk_grouped.bias", "self_attn.qkv.conv_qk.1.bias"],
  ["self_attn.qk_norm.temp", "self_attn.qkv.temp"],
  ["self_attn.o_proj.weight", "self_attn.o_proj.weight"],
]);
const experts = new Map([
  ["post_attention_layernorm.weight", "input_norm.weight"],
  ["mlp.gate.down_proj.weight", "zaya_block.router.down_proj.weight"],
  ["mlp.gate.down_proj.bias", "zaya_block.router.down_proj.bias"],
  ["mlp.gate.router_states_scale", "zaya_block.router.router_states_scale"],
  ["mlp.gate.router_mlp.norm.weight", "zaya_block.router.rmsnorm_eda.weight"],
  ["mlp.gate.router_mlp.fc1.weight", "zaya_block.router.router_mlp.0.weight"],
  ["mlp.gate.router_mlp.fc1.bias", "zaya_block.router.router_mlp.0.bias"],
  ["mlp.gate.router_mlp.fc2.weight", "zaya_block.router.router_mlp.2.weight"],
  ["mlp.gate.router_mlp.fc2.bias", "zaya_block.router.router_mlp.2.bias"],
  ["mlp.gate.router_mlp.out_proj.weight", "zaya_block.router.router_mlp.4.weight"],
  ["mlp.gate.balancing_biases", "zaya_block.router.balancing_biases"],
]);
const expertMatrices = new Map([
  ["mlp.experts.gate_up_proj", "linear_fc1"],
  ["mlp.experts.down_proj", "linear_fc2"],
]);

/** Where each parameter lies in the original layout, by its transformers name. */
export function originalLayout(config: ZayaConfig): ReadonlyMap<string, OriginalSource> {
  return new Map(parameters(config).map((spec) => [spec.name, originalSource(spec, config)]));
}

function originalSource(spec: ParameterSpec, config: ZayaConfig): OriginalSource {
  const { shape } = spec;
  const as = (name: string): OriginalSource => ({ names: [name], shape });
  if (spec.layer === undefined) {
    if (spec.name === "model.norm.weight") return as("model.final_norm.weight");
    if (spec.name.startsWith("model.input_")) return as(spec.name.replace("model.input_", "model.layers.0.res_scale."));
    return as(spec.name);
  }
  const block = spec.layer;
  const rest = spec.name.slice(`model.layers.${block}.`.length);
  const attentionName = attention.get(rest);
  if (attentionName) return as(`model.layers.${2 * block}.${attentionName}`);
  const expertsName = experts.get(rest);
  if (expertsName) return as(`model.layers.${2 * block + 1}.${expertsName}`);
  const matrix = expertMatrices.get(rest);
  if (matrix) {
    const names = Array.from(
      { length: config.numExperts },
      (_, e) => `model.layers.${2 * block + 1}.zaya_block.experts.local_experts.${e}.${matrix}.weight`,
    );
    return { names, shape: shape.slice(1) };
  }
  const [merge, part] = rest.split(".");
  if (merge === "post_attention_residual_scale") return as(`model.layers.${2 * block + 1}.res_scale.${part}`);
  return as(block === config.numLayers - 1 ? `model.res_scale.${part}` : `model.layers.${2 * block + 2}.res_scale.${part}`);
}
