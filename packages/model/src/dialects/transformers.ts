import { z } from "zod";
import { count, layerCount, tokenCount, type ZayaConfig } from "../config.js";
import { fixed, RopeParameters, read, rope, tokenIds, tokens } from "./fields.js";

const TransformersDialect = z.looseObject({
  vocab_size: count,
  hidden_size: count,
  num_hidden_layers: layerCount,
  num_attention_heads: count,
  num_key_value_heads: count,
  head_dim: count,
  moe_intermediate_size: count,
  num_experts: count,
  router_hidden_size: count,
  layer_types: z.array(z.enum(["hybrid", "hybrid_sliding"])).nullish(),
  sliding_window: tokenCount.nullish(),
  rope_parameters: RopeParameters.nullish(),
  rms_norm_eps: z.number().positive().nullish(),
  ...fixed,
  ...tokens,
});

/** A ZAYA config.json in the keys of Hugging Face transformers. */
export function fromTransformers(json: unknown): ZayaConfig {
  const raw = read(TransformersDialect, json);
  const { hybrid, hybrid_sliding } = raw.rope_parameters ?? {};
  const flat = raw.rope_parameters?.rope_theta ? raw.rope_parameters : null;
  return {
    kind: "zaya",
    vocabSize: raw.vocab_size,
    hiddenSize: raw.hidden_size,
    numLayers: raw.num_hidden_layers,
    numQueryHeads: raw.num_attention_heads,
    numKeyValueHeads: raw.num_key_value_heads,
    headDim: raw.head_dim,
    expertSize: raw.moe_intermediate_size,
    numExperts: raw.num_experts,
    routerSize: raw.router_hidden_size,
    layerTypes: raw.layer_types?.map((type) => (type === "hybrid" ? "full" : "sliding")) ?? new Array(raw.num_hidden_layers).fill("full"),
    slidingWindow: raw.sliding_window ?? null,
    rope: {
      full: rope(hybrid ?? flat, "rope_parameters.hybrid", raw.head_dim, { theta: 5e6, factor: 0.5 }),
      sliding: rope(hybrid_sliding, "rope_parameters.hybrid_sliding", raw.head_dim, { theta: 1e4, factor: 0.5 }),
    },
    rmsNormEps: raw.rms_norm_eps ?? 1e-5,
    lmHeadBias: raw.lm_head_bias ?? false,
    clampTemp: raw.clamp_temp ?? false,
    tieWordEmbeddings: raw.tie_word_embeddings ?? true,
    maxPositions: raw.max_position_embeddings ?? 131072,
    ...tokenIds(raw),
  };
}
