import { readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import type { TensorType } from "@zaya/kernels";
import { toBfloat16 } from "./bfloat16.js";
import type { ModelConfig } from "./config.js";
import { configJson } from "./config_json.js";
import { fail, type ModelErrorCode } from "./errors.js";
import { expectConfig } from "./expect_config.js";
import { firstNotFinite } from "./finite.js";
import type { WeightType } from "./layout.js";
import { takeLock } from "./lock.js";
import { makeFolder } from "./make_folder.js";
import { parameters } from "./parameters.js";
import { runEntries } from "./run_layout.js";
import type { SafetensorsEntry } from "./safetensors.js";
import { createSafetensors, expectShardBytes, type SafetensorsWriter, writeFileAtomically } from "./safetensors_writer.js";
import { checkpointIn, exists, holdsCheckpoint } from "./shards.js";
import { expectTokenizerFiles, tokenizerFileNames } from "./tokenizer/files.js";

/** Files beside the weights that a tokenizer needs, by name. */
export type TokenizerFiles = Readonly<Record<string, string | Uint8Array>>;

export interface SaveOptions {
  readonly config: ModelConfig;
  /**
   * Every parameter once, in any order: float32 values, or bfloat16 as its 16 bits. An array is checked before anything is written, what comes one by one
   * as it comes.
   */
  readonly tensors: Iterable<SavedTensor> | AsyncIterable<SavedTensor>;
  /** Written into the folder as they are, under the names that `readTokenizerFiles` knows. */
  readonly tokenizerFiles?: TokenizerFiles | undefined;
  /** Type of the weights in the file; balancing biases are always float32. Default float32. */
  readonly dtype?: "float32" | "bfloat16";
  /** Files are cut above this size. Default 5 GB. */
  readonly shardBytes?: number | undefined;
  /** Replaces a checkpoint that is there, with its tokenizer, once the new weights are on the disk, which needs room for both. */
  readonly overwrite?: boolean | undefined;
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
  readonly dtype?: SaveOptions["dtype"] | undefined;
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
 * @throws CONFIG_INVALID, INVALID_ARGUMENT naming an option, CHECKPOINT_EXISTS when the folder holds a checkpoint, CHECKPOINT_LOCKED when another writer is
 * at work in it
 */
export async function createCheckpointWriter(dir: string, options: CheckpointWriterOptions): Promise<SafetensorsWriter> {
  const { config, types, dtype = "float32", tokenizerFiles = {}, shardBytes, overwrite = false, resume = false } = options;
  expectConfig(config);
  expectTokenizerFiles(tokenizerFiles);
  expectShardBytes(shardBytes);
  const { entries, metadata } = types ? runEntries(types) : { entries: plainEntries(config, dtype), metadata: {} };
  const folder = resume ? null : await openCheckpointFolder(dir, overwrite); // who resumes has a lock of its own
  try {
    const writer = await createSafetensors(dir, entries, {
      shardBytes: types ? Number.POSITIVE_INFINITY : shardBytes,
      metadata,
      resume,
      beforeNames: folder?.clear,
    });
    return {
      ...writer,
      async finish() {
        await writer.finish();
        await writeSideFiles(dir, config, types ? "bfloat16" : dtype, tokenizerFiles);
        await folder?.[Symbol.asyncDispose]();
      },
      async abort() {
        await writer.abort();
        await folder?.[Symbol.asyncDispose]();
      },
      async [Symbol.asyncDispose]() {
        await writer[Symbol.asyncDispose]();
        await folder?.[Symbol.asyncDispose]();
      },
    };
  } catch (error) {
    await folder?.[Symbol.asyncDispose]();
    throw error;
  }
}

type PlainEntry = SafetensorsEntry & { readonly dtype: WeightType };

function plainEntries(config: ModelConfig, dtype: "float32" | "bfloat16"): PlainEntry[] {
  if (dtype !== "float32" && dtype !== "bfloat16") fail("INVALID_ARGUMENT", `dtype must be float32 or bfloat16, received ${String(dtype)}`);
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
 * @throws CONFIG_INVALID, CHECKPOINT_EXISTS when the folder holds a checkpoint, INVALID_ARGUMENT naming an option, or a tensor
 * that is unknown, missing, of the wrong size or kind, or holds NaN or an infinity
 * @example await saveCheckpoint("runs/new", { config: presets["zaya-tiny"], tensors: initialise(presets["zaya-tiny"], 1) });
 */
export async function saveCheckpoint(dir: string, { tensors, ...options }: SaveOptions): Promise<void> {
  const types = new Map(plainEntries(options.config, options.dtype ?? "float32").map((entry) => [entry.name, entry.dtype]));
  if (Array.isArray(tensors)) for (const { name, data } of tensors) storedBytes(name, data, types.get(name));
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

/** A folder while a checkpoint is written into it, by one process at a time. */
export interface CheckpointFolder extends AsyncDisposable {
  /** Removes the checkpoint that is to be replaced, with its tokenizer: config.json first, so that what is left half way never looks like one. */
  clear(): Promise<void>;
}

/**
 * Makes the folder, takes it, and clears it of what an interrupted writer left.
 * @throws CHECKPOINT_EXISTS, CHECKPOINT_LOCKED
 */
export async function openCheckpointFolder(dir: string, overwrite: boolean): Promise<CheckpointFolder> {
  await makeFolder(dir);
  const lock = await takeLock(join(dir, "checkpoint.lock"), {
    code: "CHECKPOINT_LOCKED" satisfies ModelErrorCode,
    doing: "writing a checkpoint into this folder",
  });
  const remove = async (isPart: (name: string) => boolean) => {
    for (const name of (await readdir(dir)).filter(isPart).sort()) await rm(join(dir, name)); // "config.json" sorts before "model…"
  };
  try {
    const old = await checkpointIn(dir);
    if (old !== undefined && !overwrite) holdsCheckpoint(dir, old, "choose another folder or ask to overwrite it");
    await remove((name) => /^model.*\.safetensors(\.index\.json)?\.partial$/.test(name));
    return {
      async clear() {
        if (old === undefined) return;
        await remove((name) => name === "config.json" || /^model.*\.safetensors(\.index\.json)?$/.test(name));
        await remove((name) => tokenizerFileNames.includes(name));
      },
      [Symbol.asyncDispose]: () => lock[Symbol.asyncDispose](),
    };
  } catch (error) {
    await lock[Symbol.asyncDispose]();
    throw error;
  }
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

function storedBytes(name: string, data: Float32Array | Uint16Array, dtype: WeightType | undefined): Uint8Array {
  if (dtype === undefined) fail("INVALID_ARGUMENT", `${name} is no tensor of this checkpoint`);
  if (!(data instanceof Float32Array || (data instanceof Uint16Array && dtype === "BF16"))) {
    const [saved, kinds] = dtype === "F32" ? ["float32", "a Float32Array"] : ["bfloat16", "a Float32Array or Uint16Array"];
    const received = (data as object | undefined)?.constructor?.name ?? String(data);
    fail("INVALID_ARGUMENT", `${name} is saved as ${saved} and needs ${kinds}, received ${received}`);
  }
  const stored = data instanceof Float32Array && dtype === "BF16" ? toBfloat16(data) : data;
  const bytes = new Uint8Array(stored.buffer, stored.byteOffset, stored.byteLength);
  const broken = firstNotFinite(bytes, dtype);
  if (broken) fail("INVALID_ARGUMENT", `${name} holds ${broken.what} at element ${broken.element}; no such checkpoint can be loaded`);
  return bytes;
}
