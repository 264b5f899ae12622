import { describe, expect, it } from "vitest";
import { configJson } from "./config_json.js";
import { parseConfig } from "./dialects.js";
import { presets } from "./presets.js";
import { miniature, originalConfigJson } from "./testing.js";

const native = configJson(miniature);
const original = originalConfigJson(miniature);
/** The original dialect with a list entry a half, as the first released checkpoints have it. */
const lists = {
  ...original,
  num_hidden_layers: 99,
  zaya_layers: ["a", 3, "a", 3],
  cca_num_q_heads: [4, 0, 4, 0],
  num_query_groups: undefined,
  num_query_groups_list: [2, 0, 2, 0],
  num_experts: undefined,
  ffn_hidden_size: undefined,
  ffn_hidden_size_list: [0, 16, 0, 16],
  zaya_mlp_expansion: [0, 8, 0, 8],
  head_dim: undefined,
};

describe("parseConfig", () => {
  it("reads the three dialects of one model to the same configuration", () => {
    for (const dialect of [native, original, lists]) expect(parseConfig(dialect)).toEqual(miniature);
  });

  it("reads back what configJson writes, for every preset", () => {
    for (const config of [...Object.values(presets), { ...miniature, clampTemp: true, eosTokenIds: [1, 106] }]) {
      expect(parseConfig(JSON.parse(JSON.stringify(configJson(config))))).toEqual(config);
    }
  });

  it("reads back every number of rotated dimensions, though their share of the head is rounded", () => {
    for (const [headDim, rotaryDim] of [
      [44, 30],
      [88, 60],
      [98, 32],
      [128, 128],
    ] as const) {
      const full = { ...miniature.rope.full, rotaryDim };
      const json = configJson({ ...miniature, headDim, rope: { full, sliding: full } });
      expect(parseConfig(JSON.parse(JSON.stringify(json)))).toMatchObject({ headDim, rope: { full: { rotaryDim } } });
    }
  });

  it("overlooks original keys that a conversion left beside the new ones", () => {
    expect(parseConfig({ ...native, zaya_mlp_expansion: 8, ffn_hidden_size: 99, num_query_groups: 2 })).toEqual(miniature);
  });

  it("overlooks a stray rope_type at the top of rope_parameters", () => {
    const rope_parameters = { ...(native.rope_parameters as object), rope_type: "default" };
    expect(parseConfig({ ...native, rope_parameters })).toEqual(miniature);
  });

  it("takes the reference's rotary defaults where rope_parameters is null", () => {
    const config = parseConfig({ ...native, rope_parameters: null });
    expect(config.rope).toEqual({ full: { theta: 5e6, rotaryDim: 2 }, sliding: { theta: 1e4, rotaryDim: 2 } });
  });

  it("takes the query heads from cca_num_q_heads, else from the rows of linear_q, else from num_attention_heads", () => {
    const { cca_num_q_heads: _, ...rest } = original;
    expect(parseConfig(original, { queryRows: 99 }).numQueryHeads).toBe(4);
    expect(parseConfig(rest, { queryRows: 16 }).numQueryHeads).toBe(4);
    expect(parseConfig(rest).numQueryHeads).toBe(8);
  });

  it("takes a head's dims from head_dim, else kv_channels, else hidden_size over num_attention_heads", () => {
    const dims = (head_dim?: number, kv_channels?: number) =>
      parseConfig({ ...original, num_attention_heads: 2, head_dim, kv_channels }).headDim;
    expect([dims(4, 12), dims(undefined, 12), dims()]).toEqual([4, 12, 8]);
  });

  it("reads swa_layers as tokens before the current one, an entry a half or a block", () => {
    expect(parseConfig({ ...original, swa_layers: [0, 6] })).toEqual(miniature);
    expect(parseConfig({ ...original, swa_layers: null })).toMatchObject({ layerTypes: ["full", "full"], slidingWindow: null });
  });

  it("reads an original config that newer transformers saved with flat rope_parameters", () => {
    const rope_parameters = { factor: 1, partial_rotary_factor: 0.5, rope_theta: 5e6, rope_type: "linear" };
    expect(parseConfig({ ...original, rope_theta: undefined, rope_scaling: undefined, rope_parameters })).toEqual(miniature);
  });

  it("reads one, several or no end-of-text ids", () => {
    expect(parseConfig({ ...native, eos_token_id: [1, 106] }).eosTokenIds).toEqual([1, 106]);
    expect(parseConfig({ ...native, eos_token_id: null }).eosTokenIds).toEqual([]);
  });

  it("reads a Llama as the dense twin", () => {
    const llama = {
      model_type: "llama",
      vocab_size: 32,
      hidden_size: 8,
      intermediate_size: 16,
      num_hidden_layers: 1,
      num_attention_heads: 2,
    };
    expect(parseConfig(llama)).toMatchObject({
      kind: "dense",
      ffnSize: 16,
      headDim: 4,
      numKeyValueHeads: 2,
      rope: { theta: 1e4, rotaryDim: 4 },
    });
  });

  const tooBig = (key: string, most: number, received: number) =>
    `config.json: ${key}: Too big: expected number to be <=${most}, received ${received}`;
  const without = (config: object, key: string) => ({ ...config, [key]: undefined });
  it.each<[string, unknown, string]>([
    ["no object", [1], "config.json: expected a JSON object"],
    [
      "another model",
      { ...native, model_type: "gpt2" },
      'config.json: expected model_type "zaya" (or "llama" for a dense model), received "gpt2"',
    ],
    [
      "no model type",
      without(native, "model_type"),
      'config.json: expected model_type "zaya" (or "llama" for a dense model), received nothing',
    ],
    [
      "an unknown dialect",
      { model_type: "zaya", vocab_size: 8 },
      "config.json: unknown dialect: neither moe_intermediate_size (transformers) nor ffn_hidden_size or zaya_layers (original) is there",
    ],
    ["a missing key", without(native, "hidden_size"), "config.json: hidden_size is missing"],
    ["a missing key of the dialect itself", without(native, "router_hidden_size"), "config.json: router_hidden_size is missing"],
    ["a wrong type", { ...native, hidden_size: "16" }, 'config.json: hidden_size: expected number, received "16"'],
    ["more layers than any model has", { ...native, layer_types: null, num_hidden_layers: 5e9 }, tooBig("num_hidden_layers", 4096, 5e9)],
    ["more halves than any model has", { ...original, swa_layers: null, num_hidden_layers: 1e6 }, tooBig("num_hidden_layers", 8192, 1e6)],
    ["a width beyond any memory", { ...native, hidden_size: 2 ** 40 }, tooBig("hidden_size", 2 ** 24, 2 ** 40)],
    [
      "more experts than any model has",
      { ...native, num_experts: 2 ** 24 },
      "config.json: 2 layers of 16777216 experts are too many, 262144 experts are the most",
    ],
    ["a fraction", { ...native, num_experts: 2.5 }, "config.json: num_experts: expected int, received 2.5"],
    [
      "heads that do not divide",
      { ...native, num_attention_heads: 5 },
      "config.json: the number of query heads (5) must be a multiple of the number of key/value heads (2)",
    ],
    ["too few layer types", { ...native, layer_types: ["hybrid"] }, "config.json: 1 layer types are given for 2 layers"],
    [
      "an unknown layer type",
      { ...native, layer_types: ["hybrid", "mamba"] },
      'config.json: layer_types.1: expected one of "hybrid"|"hybrid_sliding", received "mamba"',
    ],
    ["a missing window", { ...native, sliding_window: null }, "config.json: there are sliding layers, but no sliding window is given"],
    [
      "two experts a token",
      { ...native, num_experts_per_tok: 2 },
      "config.json: num_experts_per_tok: only one expert a token is supported, received 2",
    ],
    [
      "scaled rotary angles",
      { ...native, rope_parameters: { hybrid: { rope_type: "yarn", rope_theta: 1e6, factor: 4 } } },
      'config.json: rope_parameters.hybrid: rope_type "yarn" is not supported, only "default"',
    ],
    [
      "flat rotary angles that turn too much",
      { ...native, rope_parameters: { rope_theta: 1e6, partial_rotary_factor: 2 } },
      "config.json: rope_parameters.partial_rotary_factor: Too big: expected number to be <=1, received 2",
    ],
    [
      "a base of rotary angles that is no number",
      { ...native, rope_parameters: { rope_theta: "1e6" } },
      'config.json: rope_parameters.rope_theta: expected number, received "1e6"',
    ],
    [
      "quantised weights",
      { ...native, quantization_config: { quant_method: "fp8" } },
      "config.json: quantization_config: quantised checkpoints are not supported, only F32, BF16 and F16 weights",
    ],
    [
      "an odd number of halves",
      { ...original, num_hidden_layers: 5 },
      "config.json: expected an even number of layers (attention and experts alternate), received 5",
    ],
    [
      "layers that do not alternate",
      { ...lists, zaya_layers: ["a", "a", 3, 3] },
      'config.json: zaya_layers[1]: attention ("a") and experts must alternate, received "a"',
    ],
    [
      "experts of different size",
      { ...lists, ffn_hidden_size_list: [0, 16, 0, 32] },
      "config.json: ffn_hidden_size_list: layers of different size are not supported, received 16, 32",
    ],
    [
      "a list of the wrong length",
      { ...lists, cca_num_q_heads: [4, 0, 4] },
      "config.json: cca_num_q_heads: expected 4 entries, received 3",
    ],
    [
      "windows of different size",
      { ...original, swa_layers: [3, 6] },
      "config.json: swa_layers: only one window size is supported, received 3, 6",
    ],
    [
      "windows without a rotary base",
      { ...original, swa_rotary_base: null },
      "config.json: swa_layers has sliding layers, but swa_rotary_base is missing",
    ],
    ["no rotary base", { ...original, rope_theta: null }, "config.json: rope_theta is missing"],
    [
      "no skip class",
      { ...original, zaya_use_mod: false },
      "config.json: zaya_use_mod: only routers with the skip class are supported, received false",
    ],
    [
      "no key/value heads",
      { ...original, num_query_groups: undefined, num_key_value_heads: undefined },
      "config.json: num_query_groups or num_query_groups_list or num_key_value_heads is missing",
    ],
  ])("refuses %s in one clear line", (_, json, message) => {
    expect(() => parseConfig(json)).toThrowError(expect.objectContaining({ code: "CONFIG_INVALID", message }));
  });
});
