import { readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import type { TensorType } from "@zaya/kernels";
import { toBfloat16 } from "./bfloat16.js";
import type { ModelConfig } from "./config.js";
import { configJson } from "./config_json.js";
import { fail } from "./errors.js";
import { expectConfig } from "./expect_config.js";
import { makeFolder } from "./make_folder.js";
import { parameters } from "./parameters.js";
import { runEntries } from "./run_layout.js";
import type { SafetensorsEntry } from "./safetensors.js";
import { createSafetensors, type SafetensorsWriter, writeFileAtomically } from "./safetensors_writer.js";
import { checkpointIn, exists, holdsCheckpoint } from "./shards.js";

/** Files beside the weights that a tokenizer needs, by name. */
export type TokenizerFiles = Readonly<Record<string, string | Uint8Array>>;

export interface SaveOptions {
  readonly config: ModelConfig;
  /** Every parameter once, in any order: float32 values, or bfloat16 as its 16 bits. */
  readonly tensors: Iterable<SavedTensor> | AsyncIterable<SavedTensor>;
  /** Written into the folder as they are; see `readTokenizerFiles`. */
  readonly tokenizerFiles?: TokenizerFiles | undefined;
  /** Type of the weights in the file; balancing biases are always float32. Default float32. */
  readonly dtype?: "float32" | "bfloat16";
  /** Files are cut above this size. Default 5 GB. */
  readonly shardBytes?: number;
  /** Replaces a checkpoint that is there, with its tokenizer. Its config.json goes first, so what is left half way never looks like a checkpoint. */
  readonly overwrite?: boolean;
}

interface SavedTensor {
  readonly name: string;
  readonly data: Float32Array | Uint16Array;
}

/** What is known of a checkpoint before its first tensor. */
export interface CheckpointWriterOptions {
  readonly config: ModelConfig;
  /** How every parameter lies in the file: the run layout (`runTypes`). Default: the transformers layout. */
  readonly types?: ReadonlyMap<string, TensorType> | undefined;
  readonly dtype?: SaveOptions["dtype"];
  readonly tokenizerFiles?: TokenizerFiles | undefined;
  readonly shardBytes?: number | undefined;
  readonly overwrite?: boolean | undefined;
  /** Continues what a writer of the same checkpoint left half way; the caller keeps what is whole (`keepPart`). */
  readonly resume?: boolean | undefined;
}

/**
 * Starts a checkpoint that is filled a tensor or a part at a time. Each file appears wholly or not at all when it is finished, config.json
 * last: a folder that has one is complete.
 *
 * @throws CONFIG_INVALID, or CHECKPOINT_EXISTS when the folder holds a checkpoint
 */
export async function createCheckpointWriter(dir: string, options: CheckpointWriterOptions): Promise<SafetensorsWriter> {
  const { config, types, dtype = "float32", tokenizerFiles = {}, shardBytes, overwrite = false, resume = false } = options;
  expectConfig(config); // before anything is removed
  const replaces = !resume && (await makeRoom(dir, overwrite));
  const { entries, metadata } = types ? runEntries(types) : { entries: plainEntries(config, dtype), metadata: {} };
  const writer = await createSafetensors(dir, entries, { shardBytes: types ? Number.POSITIVE_INFINITY : shardBytes, metadata, resume });
  return {
    ...writer,
    async finish() {
      await writer.finish();
      if (replaces) for (const name of tokenizerFileNames) await rm(join(dir, name), { force: true }); // of the other model
      await writeSideFiles(dir, config, types ? "bfloat16" : dtype, tokenizerFiles);
    },
  };
}

function plainEntries(config: ModelConfig, dtype: "float32" | "bfloat16"): SafetensorsEntry[] {
  return parameters(config).map(({ name, shape, kind }) => ({
    name,
    shape,
    dtype: dtype === "float32" || kind === "balancing" ? "F32" : "BF16",
  }));
}

/**
 * Writes a checkpoint in the `transformers` layout: safetensors, config.json and the tokenizer's files. Each file appears
 * wholly or not at all, config.json last: a folder that has one is complete. The same values give the same bytes.
 *
 * @throws CONFIG_INVALID, CHECKPOINT_EXISTS when the folder holds a checkpoint, INVALID_ARGUMENT naming a tensor that is unknown, missing or of the wrong size
 * @example await saveCheckpoint("runs/new", { config: presets["zaya-tiny"], tensors: initialise(presets["zaya-tiny"], 1) });
 */
export async function saveCheckpoint(dir: string, { tensors, ...options }: SaveOptions): Promise<void> {
  const types = new Map(plainEntries(options.config, options.dtype ?? "float32").map((entry) => [entry.name, entry.dtype]));
  const writer = await createCheckpointWriter(dir, options);
  try {
    for await (const { name, data } of tensors) await writer.write(name, storedBytes(name, data, types.get(name)));
    await writer.finish();
  } catch (error) {
    await writer.abort();
    throw error;
  }
}

/** The files that make up the tokenizer of a checkpoint, with their content; absent ones are left out. */
export async function readTokenizerFiles(dir: string): Promise<Record<string, Uint8Array>> {
  const files: Record<string, Uint8Array> = {};
  for (const name of tokenizerFileNames) {
    if (await exists(join(dir, name))) files[name] = await readFile(join(dir, name));
  }
  return files;
}

/** Of a checkpoint's files those that go into every copy of it, beside configuration and weights. */
export const tokenizerFileNames: readonly string[] = [
  "tokenizer.json",
  "tokenizer_config.json",
  "tokenizer.model",
  "special_tokens_map.json",
  "added_tokens.json",
  "chat_template.jinja",
  "generation_config.json",
];

/**
 * Makes the folder, and makes sure that no other checkpoint is mixed with the new one. Whether there was one.
 * @throws CHECKPOINT_EXISTS
 */
export async function makeRoom(dir: string, overwrite: boolean): Promise<boolean> {
  await makeFolder(dir);
  const old = await checkpointIn(dir);
  if (old !== undefined && !overwrite) holdsCheckpoint(dir, old, "choose another folder or ask to overwrite it");
  const isPart = (name: string) => name === "config.json" || /^model.*\.safetensors(\.index\.json)?(\.partial)?$/.test(name);
  for (const name of (await readdir(dir)).filter(isPart).sort()) await rm(join(dir, name)); // "config.json" sorts before "model…"
  return old !== undefined;
}

/** The last step of a save: tokenizer first, config.json last. */
export async function writeSideFiles(
  dir: string,
  config: ModelConfig,
  dtype: "float32" | "bfloat16" | "float16",
  tokenizerFiles: TokenizerFiles,
): Promise<void> {
  for (const [name, content] of Object.entries(tokenizerFiles)) await writeFileAtomically(join(dir, name), content);
  await writeFileAtomically(join(dir, "config.json"), `${JSON.stringify(configJson(config, { dtype }), null, 2)}\n`);
}

function storedBytes(name: string, data: Float32Array | Uint16Array, dtype: string | undefined): Uint8Array {
  if (data instanceof Uint16Array && dtype === "F32")
    fail("INVALID_ARGUMENT", `${name} is saved as float32 and needs a Float32Array, received a Uint16Array`);
  const stored = data instanceof Float32Array && dtype === "BF16" ? toBfloat16(data) : data;
  return new Uint8Array(stored.buffer, stored.byteOffset, stored.byteLength);
}
