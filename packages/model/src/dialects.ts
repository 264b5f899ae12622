import { z } from "zod";
import { ModelConfig } from "./config.js";
import { read, show } from "./dialects/fields.js";
import { fromLlama } from "./dialects/llama.js";
import { fromOriginal } from "./dialects/original.js";
import { fromTransformers } from "./dialects/transformers.js";
import { fail } from "./errors.js";

/**
 * The dialects of config.json.
 *
 *   transformers     model_type zaya, keys of Hugging Face transformers: num_attention_heads = query heads, moe_intermediate_size,
 *                    router_hidden_size, layer_types hybrid | hybrid_sliding, rope_parameters for each of the two
 *   original         model_type zaya, one value for all layers: num_hidden_layers counts halves (attention, experts, attention, …),
 *                    ffn_hidden_size = 2 F, cca_num_q_heads, zaya_mlp_expansion = R, swa_layers = tokens before the current one
 *   original, lists  the same with a list entry a half: zaya_layers ["a", 16, …], cca_num_q_heads [8, 0, …], ffn_hidden_size_list
 *   llama            the dense twin
 *
 * In both original dialects `num_attention_heads` can be twice the number of query heads: `cca_num_q_heads` or the rows of linear_q
 * are to be trusted. The length of `zaya_layers` beats `num_hidden_layers`.
 */
type Dialect = "transformers" | "original" | "llama";

export interface ParseConfigOptions {
  /** Rows of a query projection of the checkpoint: decides the number of query heads where an original config does not tell. */
  readonly queryRows?: number | undefined;
}

/**
 * Reads the JSON of a config.json of any dialect.
 *
 * @returns a `ZayaConfig`, or the dense twin's `DenseConfig` for a Llama
 * @throws CONFIG_INVALID naming the key, what was expected and what came
 * @example parseConfig({ model_type: "llama", hidden_size: 8, intermediate_size: 16, num_hidden_layers: 1, num_attention_heads: 2, vocab_size: 32 })
 */
export function parseConfig(json: unknown, options: ParseConfigOptions = {}): ModelConfig {
  const raw = read(z.record(z.string(), z.unknown()), json, "expected a JSON object");
  switch (dialectOf(raw)) {
    case "transformers":
      return read(ModelConfig, fromTransformers(raw));
    case "original":
      return read(ModelConfig, fromOriginal(raw, options.queryRows));
    case "llama":
      return read(ModelConfig, fromLlama(raw));
  }
}

/** Which dialect a config.json speaks; throws CONFIG_INVALID for any other. */
function dialectOf(raw: Readonly<Record<string, unknown>>): Dialect {
  const modelType = raw.model_type;
  if (modelType === "llama") return "llama";
  if (modelType !== "zaya")
    fail("CONFIG_INVALID", `config.json: expected model_type "zaya" (or "llama" for a dense model), received ${show(modelType)}`);
  if (raw.quantization_config)
    fail("CONFIG_INVALID", "config.json: quantization_config: quantised checkpoints are not supported, only F32, BF16 and F16 weights");
  // A config that was converted may keep original keys beside the new ones.
  const has = (key: string): boolean => raw[key] !== undefined && raw[key] !== null;
  const transformers = ["moe_intermediate_size", "router_hidden_size"];
  if (transformers.every(has)) return "transformers";
  if (["zaya_layers", "zaya_mlp_expansion", "ffn_hidden_size", "ffn_hidden_size_list"].some(has)) return "original";
  if (transformers.some(has)) return "transformers";
  fail(
    "CONFIG_INVALID",
    "config.json: unknown dialect: neither moe_intermediate_size (transformers) nor ffn_hidden_size or zaya_layers (original) is there",
  );
}
