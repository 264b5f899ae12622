import { join, resolve } from "node:path";
import { isZayaError } from "@zaya/kernels";
import { type CheckpointTensor, configOf, loadCheckpoint, queryRowsOf, readConfigJson } from "./checkpoint.js";
import type { ModelConfig } from "./config.js";
import { fail } from "./errors.js";
import {
  type CheckpointLayout,
  detectLayout,
  isWeightType,
  nameProblems,
  refuse,
  sourcesOf,
  tensorProblems,
  type WeightType,
} from "./layout.js";
import { parameters } from "./parameters.js";
import { isRunLayout } from "./run_layout.js";
import type { SafetensorsEntry, StoredTensor } from "./safetensors.js";
import { createSafetensors, entryBytes, type ShardFile, shardFiles } from "./safetensors_writer.js";
import { openCheckpointFolder, readTokenizerFiles, writeSideFiles } from "./save.js";
import { checkpointIn, exists, holdsCheckpoint, openShards, readShardIndex } from "./shards.js";
import { largestTensor } from "./weights.js";

/** What a conversion would write, known before any weight is read. */
export interface ConversionEstimate {
  readonly config: ModelConfig;
  /** The layout that is there. */
  readonly layout: CheckpointLayout;
  readonly tensors: { readonly before: number; readonly after: number };
  readonly files: readonly ShardFile[];
  /** Bytes of all weight files to be written. */
  readonly bytes: number;
  /** Whether types and shapes come from the files; false when only the index was there and the config's `dtype` had to do. */
  readonly exact: boolean;
  /** Files that the index names and that are not there (yet). */
  readonly missingFiles: readonly string[];
  /** What is wrong with the checkpoint, a line each. */
  readonly problems: readonly string[];
}

export interface ConvertOptions {
  readonly from: string;
  readonly to: string;
  /** Only say what would be written. */
  readonly dryRun?: boolean | undefined;
  readonly shardBytes?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

export type ConvertEvent =
  | { readonly type: "convert-start"; readonly estimate: ConversionEstimate }
  | { readonly type: "tensor-end"; readonly name: string; readonly bytes: number; readonly doneBytes: number; readonly totalBytes: number }
  | {
      readonly type: "convert-end";
      readonly dir: string;
      readonly files: readonly string[];
      readonly bytes: number;
      readonly dryRun: boolean;
    };

/**
 * Looks at config.json and the index of a checkpoint, and at the headers of those weight files that are there, and tells what
 * `convertCheckpoint` would write and what stands in the way. Needs no weight file where there is an index.
 *
 * @throws INVALID_ARGUMENT for a checkpoint in the run layout, CONFIG_INVALID, or CHECKPOINT_INVALID when there is no way to tell
 */
export async function estimateConversion(
  from: string,
  { shardBytes }: { readonly shardBytes?: number | undefined } = {},
): Promise<ConversionEstimate> {
  const json = await readConfigJson(from);
  const index = await readShardIndex(from);
  const missingFiles: string[] = [];
  for (const file of index.files) if (!(await exists(join(from, file)))) missingFiles.push(file);
  const problems: string[] = [];
  let tensors: ReadonlyMap<string, StoredTensor> | null = null;
  let isRun = false;
  if (missingFiles.length === 0) {
    try {
      const shards = await openShards(from, index);
      tensors = shards.tensors;
      isRun = isRunLayout(shards.metadata);
      await shards.close();
    } catch (error) {
      if (!index.fileOf || !isZayaError(error)) throw error;
      problems.push(error.message);
    }
  }
  if (isRun) fail("INVALID_ARGUMENT", `${from} is in the run layout, which is for serving; convert the checkpoint it was made from`);
  const names = tensors ? [...tensors.keys()] : [...(index.fileOf?.keys() ?? [])];
  const layout = detectLayout(from, names);
  const config = configOf(from, json, tensors ? queryRowsOf(tensors) : {});
  const sources = sourcesOf(config, layout);
  problems.push(...nameProblems(names, sources), ...(tensors ? tensorProblems(tensors, sources) : []));

  const assumed = configType(json);
  const entries = parameters(config).map(({ name, shape, kind }): SafetensorsEntry => {
    const stored = tensors?.get(sources.get(name)?.names[0] ?? "")?.dtype;
    return { name, shape, dtype: stored && isWeightType(stored) ? stored : kind === "balancing" ? "F32" : assumed };
  });
  const files = shardFiles(entries, { shardBytes });
  return {
    config,
    layout,
    tensors: { before: names.length, after: entries.length },
    files,
    bytes: files.reduce((sum, file) => sum + file.bytes, 0),
    exact: tensors !== null,
    missingFiles,
    problems,
  };
}

/**
 * Writes a checkpoint of either layout in the `transformers` layout, a tensor at a time, every element unchanged, and copies the
 * tokenizer's files. Nothing is written when something stands in the way; an interrupted conversion leaves no checkpoint behind.
 *
 * @throws CHECKPOINT_INVALID with the first problem, CHECKPOINT_EXISTS, CHECKPOINT_LOCKED, or the signal's reason
 * @example for await (const event of convertCheckpoint({ from: "legacy", to: "native" })) console.log(event.type);
 */
export async function* convertCheckpoint({
  from,
  to,
  dryRun = false,
  shardBytes,
  signal,
}: ConvertOptions): AsyncGenerator<ConvertEvent, void, undefined> {
  signal?.throwIfAborted();
  if (resolve(from) === resolve(to)) fail("INVALID_ARGUMENT", `${to}: a checkpoint cannot be converted in place, choose another folder`);
  const there = await checkpointIn(to);
  if (there !== undefined) holdsCheckpoint(to, there);
  const estimate = await estimateConversion(from, { shardBytes });
  yield { type: "convert-start", estimate };
  const end = { type: "convert-end", dir: to, files: estimate.files.map(({ name }) => name), bytes: estimate.bytes, dryRun } as const;
  if (dryRun) return yield end;

  refuse(from, [...estimate.problems, ...estimate.missingFiles.map((file) => `${file} is not there`)]);
  const checkpoint = await loadCheckpoint(from);
  try {
    await using _folder = await openCheckpointFolder(to, false);
    const { tensors } = checkpoint;
    const entries = [...tensors].map(([name, { dtype, shape }]): SafetensorsEntry => ({ name, dtype, shape }));
    const totalBytes = entries.reduce((sum, entry) => sum + entryBytes(entry), 0);
    const writer = await createSafetensors(to, entries, { shardBytes });
    const buffer = new Uint8Array(largestTensor(checkpoint));
    let finished = false;
    try {
      let doneBytes = 0;
      for (const [name, { bytes }] of tensors) {
        signal?.throwIfAborted();
        await writer.write(name, await checkpoint.read(name, buffer));
        doneBytes += bytes;
        yield { type: "tensor-end", name, bytes, doneBytes, totalBytes };
      }
      await writer.finish();
      finished = true;
    } finally {
      if (!finished) await writer.abort(); // also when the caller leaves the loop
    }
    await writeSideFiles(to, checkpoint.config, commonType(tensors), await readTokenizerFiles(from));
  } finally {
    await checkpoint[Symbol.asyncDispose]();
  }
  yield end;
}

const dtypeNames = { F32: "float32", BF16: "bfloat16", F16: "float16" } as const;

/** The type most bytes have: what config.json calls the checkpoint's dtype. */
function commonType(tensors: ReadonlyMap<string, CheckpointTensor>): (typeof dtypeNames)[WeightType] {
  const bytes = { F32: 0, BF16: 0, F16: 0 };
  for (const tensor of tensors.values()) bytes[tensor.dtype] += tensor.bytes;
  const [most] = (Object.keys(bytes) as WeightType[]).sort((a, b) => bytes[b] - bytes[a]);
  return dtypeNames[most as WeightType];
}

function configType(json: unknown): WeightType {
  const { dtype, torch_dtype } = json as { dtype?: unknown; torch_dtype?: unknown };
  const [type] = Object.entries(dtypeNames).find(([, name]) => name === (dtype ?? torch_dtype)) ?? ["BF16"];
  return type as WeightType;
}
