import { z } from "zod";
import { count, type DenseConfig, layerCount, tokenCount } from "../config.js";
import { fail } from "../errors.js";
import { optionalBoolean, RopeEntry, RopeScaling, read, rope, tokenIds, tokens } from "./fields.js";

const LlamaDialect = z.looseObject({
  vocab_size: count,
  hidden_size: count,
  intermediate_size: count,
  num_hidden_layers: layerCount,
  num_attention_heads: count,
  num_key_value_heads: count.nullish(),
  head_dim: count.nullish(),
  rms_norm_eps: z.number().positive().nullish(),
  rope_theta: z.number().positive().nullish(),
  rope_scaling: RopeScaling.nullish(),
  rope_parameters: RopeEntry.nullish(),
  max_position_embeddings: tokenCount.nullish(),
  tie_word_embeddings: optionalBoolean,
  hidden_act: z.literal("silu", { error: "only silu is supported" }).nullish(),
  attention_bias: z.literal(false, { error: "biases in attention are not supported" }).nullish(),
  mlp_bias: z.literal(false, { error: "biases in linear layers are not supported" }).nullish(),
  ...tokens,
});

/** The config.json of a Llama: what the dense twin is. */
export function fromLlama(json: unknown): DenseConfig {
  const raw = read(LlamaDialect, json);
  const headDim = raw.head_dim ?? raw.hidden_size / raw.num_attention_heads;
  if (!Number.isInteger(headDim))
    fail("CONFIG_INVALID", "config.json: hidden_size is no multiple of num_attention_heads, and head_dim is missing");
  const entry = { ...(raw.rope_scaling || {}), ...(raw.rope_parameters ?? {}), ...(raw.rope_theta ? { rope_theta: raw.rope_theta } : {}) };
  return {
    kind: "dense",
    vocabSize: raw.vocab_size,
    hiddenSize: raw.hidden_size,
    numLayers: raw.num_hidden_layers,
    numQueryHeads: raw.num_attention_heads,
    numKeyValueHeads: raw.num_key_value_heads ?? raw.num_attention_heads,
    headDim,
    ffnSize: raw.intermediate_size,
    rope: rope(entry, "rope_parameters", headDim, { theta: 1e4, factor: 1 }),
    rmsNormEps: raw.rms_norm_eps ?? 1e-6,
    tieWordEmbeddings: raw.tie_word_embeddings ?? false,
    maxPositions: raw.max_position_embeddings ?? 2048,
    ...tokenIds(raw),
  };
}
