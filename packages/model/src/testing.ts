import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ZayaConfig } from "./config.js";
import { initialise } from "./initialise.js";
import { originalLayout } from "./original_layout.js";
import { presets } from "./presets.js";
import type { SafetensorsEntry } from "./safetensors.js";
import { createSafetensors } from "./safetensors_writer.js";

/** A ZAYA of a few thousand parameters with every feature on: sliding layers, grouped heads, a head of its own with bias. */
export const miniature: ZayaConfig = {
  ...presets["zaya-tiny"],
  vocabSize: 40,
  hiddenSize: 16,
  numLayers: 2,
  numQueryHeads: 4,
  numKeyValueHeads: 2,
  headDim: 4,
  expertSize: 8,
  numExperts: 3,
  routerSize: 8,
  layerTypes: ["full", "sliding"],
  slidingWindow: 7,
  rope: { full: { theta: 5e6, rotaryDim: 2 }, sliding: { theta: 1e4, rotaryDim: 2 } },
  tieWordEmbeddings: false,
  lmHeadBias: true,
  maxPositions: 512,
};

/** The config.json of the original dialect with one value for all layers. */
export function originalConfigJson(config: ZayaConfig): Record<string, unknown> {
  const sliding = config.slidingWindow ?? 1;
  return {
    architectures: ["ZayaForCausalLM"],
    model_type: "zaya",
    vocab_size: config.vocabSize,
    hidden_size: config.hiddenSize,
    num_hidden_layers: 2 * config.numLayers,
    num_attention_heads: 2 * config.numQueryHeads,
    num_query_groups: config.numKeyValueHeads,
    num_key_value_heads: config.numKeyValueHeads,
    head_dim: config.headDim,
    kv_channels: config.headDim,
    cca: true,
    cca_num_q_heads: config.numQueryHeads,
    cca_time0: 2,
    cca_time1: 2,
    clamp_temp: config.clampTemp,
    ffn_hidden_size: 2 * config.expertSize,
    num_experts: config.numExperts,
    moe_router_topk: 1,
    zaya_mlp_expansion: config.routerSize,
    zaya_use_eda: true,
    zaya_use_mod: true,
    activation_func: "swiglu",
    gated_linear_unit: true,
    add_bias_linear: false,
    normalization: "RMSNorm",
    norm_epsilon: config.rmsNormEps,
    partial_rotary_factor: config.rope.full.rotaryDim / config.headDim,
    rope_theta: config.rope.full.theta,
    rope_scaling: false,
    swa_layers: config.layerTypes.flatMap((type) => (type === "sliding" ? [sliding - 1, sliding - 1] : [0, 0])),
    swa_rotary_base: config.rope.sliding.theta,
    residual_in_fp32: true,
    scale_residual_merge: true,
    tie_word_embeddings: config.tieWordEmbeddings,
    lm_head_bias: config.lmHeadBias,
    max_position_embeddings: config.maxPositions,
    pad_token_id: config.padTokenId,
    bos_token_id: config.bosTokenId,
    eos_token_id: config.eosTokenIds[0],
  };
}

/** Writes the model that `initialise(config, seed)` gives in the original layout, float32. */
export async function writeOriginalCheckpoint(
  dir: string,
  config: ZayaConfig,
  seed: number,
  { shardBytes }: { shardBytes?: number } = {},
): Promise<void> {
  const layout = originalLayout(config);
  const entries = [...layout.values()].flatMap(({ names, shape }) =>
    names.map((name): SafetensorsEntry => ({ name, dtype: "F32", shape })),
  );
  const writer = await createSafetensors(dir, entries, { shardBytes });
  for (const { name, data } of initialise(config, seed)) {
    const { names } = layout.get(name) ?? { names: [] };
    const length = data.length / names.length;
    for (const [i, part] of names.entries()) {
      const slice = data.slice(i * length, (i + 1) * length);
      await writer.write(part, new Uint8Array(slice.buffer));
    }
  }
  await writer.finish();
  await writeFile(join(dir, "config.json"), JSON.stringify(originalConfigJson(config)));
}

/** A safetensors file with any header at all. */
export function safetensorsBytes(header: string | Record<string, unknown>, dataBytes: number): Uint8Array {
  const json = new TextEncoder().encode(typeof header === "string" ? header : JSON.stringify(header));
  const bytes = new Uint8Array(8 + json.length + dataBytes);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(json.length), true);
  bytes.set(json, 8);
  return bytes;
}

/** A folder that is gone when the test is. */
export async function temporaryFolder(): Promise<AsyncDisposable & { readonly path: string }> {
  const path = await mkdtemp(join(tmpdir(), "zaya-model-"));
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
}
