import type { ModelConfig, Rope, ZayaConfig } from "./config.js";

/**
 * The config.json of a model in the keys of Hugging Face transformers (model type `zaya`, or `llama` for the dense twin).
 * `dtype` is the type of the weights written beside it. A model whose `clampTemp` is on gets the extra key `clamp_temp`,
 * which the reference implementation does not know.
 *
 * @example JSON.stringify(configJson(presets["zaya-tiny"]), null, 2)
 */
export function configJson(
  config: ModelConfig,
  { dtype = "float32" }: { readonly dtype?: "float32" | "bfloat16" | "float16" } = {},
): Record<string, unknown> {
  const tokens = {
    bos_token_id: config.bosTokenId,
    eos_token_id: config.eosTokenIds.length > 1 ? config.eosTokenIds : (config.eosTokenIds[0] ?? null),
    pad_token_id: config.padTokenId,
  };
  const shared = {
    attention_bias: false,
    attention_dropout: 0.0,
    dtype,
    head_dim: config.headDim,
    hidden_act: "silu",
    hidden_size: config.hiddenSize,
    initializer_range: 0.02,
    max_position_embeddings: config.maxPositions,
    num_attention_heads: config.numQueryHeads,
    num_hidden_layers: config.numLayers,
    num_key_value_heads: config.numKeyValueHeads,
    rms_norm_eps: config.rmsNormEps,
    tie_word_embeddings: config.tieWordEmbeddings,
    use_cache: true,
    vocab_size: config.vocabSize,
    ...tokens,
  };
  if (config.kind === "dense") {
    return {
      architectures: ["LlamaForCausalLM"],
      model_type: "llama",
      ...shared,
      intermediate_size: config.ffnSize,
      mlp_bias: false,
      rope_parameters: ropeParameters(config.rope, config.headDim),
    };
  }
  return {
    architectures: ["ZayaForCausalLM"],
    model_type: "zaya",
    ...shared,
    cca_time0: 2,
    cca_time1: 2,
    layer_types: config.layerTypes.map((type) => (type === "full" ? "hybrid" : "hybrid_sliding")),
    lm_head_bias: config.lmHeadBias,
    moe_intermediate_size: config.expertSize,
    num_experts: config.numExperts,
    num_experts_per_tok: 1,
    output_router_logits: false,
    rope_parameters: zayaRope(config),
    router_hidden_size: config.routerSize,
    sliding_window: config.slidingWindow,
    ...(config.clampTemp ? { clamp_temp: true } : {}),
  };
}

function zayaRope(config: ZayaConfig): Record<string, unknown> {
  return { hybrid: ropeParameters(config.rope.full, config.headDim), hybrid_sliding: ropeParameters(config.rope.sliding, config.headDim) };
}

function ropeParameters(rope: Rope, headDim: number): Record<string, unknown> {
  return { rope_type: "default", rope_theta: rope.theta, partial_rotary_factor: factorOf(rope.rotaryDim, headDim) };
}

/** What readers multiply the head by and round down, to find the rotated dimensions: their quotient may be a bit too small for that. */
function factorOf(rotaryDim: number, headDim: number): number {
  const factor = rotaryDim / headDim;
  return Math.floor(headDim * factor) < rotaryDim ? factor * (1 + Number.EPSILON) : factor;
}
