import { z } from "zod";
import { count, layerCount, type ZayaConfig } from "../config.js";
import { fail } from "../errors.js";
import { fixed, RopeEntry, RopeParameters, RopeScaling, read, rope, show, tokenIds, tokens } from "./fields.js";

const oneOrList = z.union([z.int().min(0), z.array(z.int().min(0))]).nullish();
const OriginalDialect = z.looseObject({
  vocab_size: count,
  hidden_size: count,
  num_hidden_layers: z
    .int()
    .min(1)
    .max(2 * (layerCount.maxValue as number))
    .nullish(),
  zaya_layers: z.array(z.union([z.literal("a"), count])).nullish(),
  num_attention_heads: oneOrList,
  cca_num_q_heads: oneOrList,
  num_query_groups: oneOrList,
  num_query_groups_list: oneOrList,
  num_key_value_heads: oneOrList,
  head_dim: count.nullish(),
  kv_channels: count.nullish(),
  ffn_hidden_size: oneOrList,
  ffn_hidden_size_list: oneOrList,
  num_experts: oneOrList,
  zaya_mlp_expansion: oneOrList,
  norm_epsilon: z.number().positive().nullish(),
  rms_norm_eps: z.number().positive().nullish(),
  partial_rotary_factor: z.number().min(0).max(1).nullish(),
  rope_theta: z.number().positive().nullish(),
  rope_scaling: RopeScaling.nullish(),
  rope_parameters: RopeParameters.nullish(),
  swa_layers: z.array(z.int().min(0)).nullish(),
  swa_rotary_base: z.number().positive().nullish(),
  ...fixed,
  ...tokens,
});

/**
 * A ZAYA config.json of the original checkpoints, with one value for all layers or a list entry a half.
 * `queryRows` decides the number of query heads where `cca_num_q_heads` is missing.
 */
export function fromOriginal(json: unknown, queryRows: number | undefined): ZayaConfig {
  const raw = read(OriginalDialect, json);
  const halves = raw.zaya_layers?.length ?? raw.num_hidden_layers;
  if (!halves) fail("CONFIG_INVALID", "config.json: num_hidden_layers is missing");
  if (halves % 2 !== 0)
    fail("CONFIG_INVALID", `config.json: expected an even number of layers (attention and experts alternate), received ${halves}`);
  raw.zaya_layers?.forEach((layer, i) => {
    if ((layer === "a") !== (i % 2 === 0))
      fail("CONFIG_INVALID", `config.json: zaya_layers[${i}]: attention ("a") and experts must alternate, received ${show(layer)}`);
  });
  const one = (key: keyof typeof raw & string): number | null => single(key, raw[key] as number | number[] | null | undefined, halves);
  const needed = (...keys: (keyof typeof raw & string)[]): number => {
    for (const key of keys) {
      const value = one(key);
      if (value) return value;
    }
    return fail("CONFIG_INVALID", `config.json: ${keys.join(" or ")} is missing`);
  };

  const headDim = one("head_dim") ?? one("kv_channels") ?? raw.hidden_size / needed("num_attention_heads");
  if (!Number.isInteger(headDim))
    fail("CONFIG_INVALID", "config.json: head_dim is missing, and hidden_size is no multiple of num_attention_heads");
  const numExperts = raw.zaya_layers
    ? single(
        "zaya_layers",
        raw.zaya_layers.map((layer) => (layer === "a" ? 0 : layer)),
        halves,
      )
    : needed("num_experts");
  const ffnSize = needed("ffn_hidden_size", "ffn_hidden_size_list");
  if (ffnSize % 2 !== 0)
    fail("CONFIG_INVALID", `config.json: ffn_hidden_size holds gate and up rows and must be even, received ${ffnSize}`);
  const { layerTypes, slidingWindow } = slidingLayers(raw.swa_layers ?? null, halves);
  const full = {
    ...(raw.rope_scaling || {}),
    ...(raw.rope_parameters?.hybrid ?? raw.rope_parameters ?? {}),
    ...(raw.rope_theta ? { rope_theta: raw.rope_theta } : {}),
    ...(raw.partial_rotary_factor != null ? { partial_rotary_factor: raw.partial_rotary_factor } : {}),
  };
  const entry = read(RopeEntry, full);
  if (!entry.rope_theta) fail("CONFIG_INVALID", "config.json: rope_theta is missing");
  const swaTheta = raw.swa_rotary_base ?? raw.rope_parameters?.hybrid_sliding?.rope_theta;
  if (slidingWindow !== null && !swaTheta)
    fail("CONFIG_INVALID", "config.json: swa_layers has sliding layers, but swa_rotary_base is missing");
  return {
    kind: "zaya",
    vocabSize: raw.vocab_size,
    hiddenSize: raw.hidden_size,
    numLayers: halves / 2,
    numQueryHeads: one("cca_num_q_heads") ?? queryHeads(queryRows, headDim) ?? needed("num_attention_heads"),
    numKeyValueHeads: needed("num_query_groups", "num_query_groups_list", "num_key_value_heads"),
    headDim,
    expertSize: ffnSize / 2,
    numExperts: numExperts ?? fail("CONFIG_INVALID", "config.json: zaya_layers names no number of experts"),
    routerSize: needed("zaya_mlp_expansion"),
    layerTypes,
    slidingWindow,
    rope: {
      full: rope(entry, "rope_parameters", headDim, { theta: entry.rope_theta, factor: 0.5 }),
      sliding: rope({ rope_theta: swaTheta ?? 1e4, partial_rotary_factor: entry.partial_rotary_factor }, "swa_rotary_base", headDim, {
        theta: 1e4,
        factor: 0.5,
      }),
    },
    rmsNormEps: raw.norm_epsilon ?? raw.rms_norm_eps ?? 1e-5,
    lmHeadBias: raw.lm_head_bias ?? false,
    clampTemp: raw.clamp_temp ?? false,
    tieWordEmbeddings: raw.tie_word_embeddings ?? true,
    maxPositions: raw.max_position_embeddings ?? 131072,
    ...tokenIds(raw),
  };
}

/** `swa_layers` counts the tokens before the current one, 0 for full attention, an entry a half or a block. */
function slidingLayers(swaLayers: readonly number[] | null, halves: number): Pick<ZayaConfig, "layerTypes" | "slidingWindow"> {
  const blocks = halves / 2;
  if (!swaLayers) return { layerTypes: new Array(blocks).fill("full"), slidingWindow: null };
  if (swaLayers.length !== halves && swaLayers.length !== blocks) {
    fail("CONFIG_INVALID", `config.json: swa_layers: expected ${halves} or ${blocks} entries, received ${swaLayers.length}`);
  }
  const windows = swaLayers.length === halves ? swaLayers.filter((_, i) => i % 2 === 0) : swaLayers;
  const different = [...new Set(windows.filter((window) => window > 0))];
  if (different.length > 1)
    fail("CONFIG_INVALID", `config.json: swa_layers: only one window size is supported, received ${different.join(", ")}`);
  const window = different[0];
  return { layerTypes: windows.map((w) => (w > 0 ? "sliding" : "full")), slidingWindow: window === undefined ? null : window + 1 };
}

/** The one value of a number or of a list with an entry a layer, where 0 means "not in this layer". */
function single(key: string, value: number | readonly number[] | null | undefined, halves: number): number | null {
  if (value === null || value === undefined) return null;
  if (typeof value === "number") return value === 0 ? null : value;
  if (value.length !== halves && value.length !== halves / 2) {
    fail("CONFIG_INVALID", `config.json: ${key}: expected ${halves} entries, received ${value.length}`);
  }
  const different = [...new Set(value.filter((entry) => entry !== 0))];
  if (different.length > 1)
    fail("CONFIG_INVALID", `config.json: ${key}: layers of different size are not supported, received ${different.join(", ")}`);
  return different[0] ?? null;
}

function queryHeads(queryRows: number | undefined, headDim: number): number | null {
  return queryRows === undefined || queryRows % headDim !== 0 ? null : queryRows / headDim;
}
