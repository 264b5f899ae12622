import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { type DType, isZayaError, type TensorType, tensor } from "@zaya/kernels";
import { fromBfloat16, fromFloat16 } from "./bfloat16.js";
import type { ModelConfig } from "./config.js";
import { type ParseConfigOptions, parseConfig } from "./dialects.js";
import { fail } from "./errors.js";
import { firstNotFinite } from "./finite.js";
import type { WeightStorage } from "./graph/weights.js";
import { type CheckpointLayout, detectLayout, nameProblems, refuse, sourcesOf, tensorProblems, type WeightType } from "./layout.js";
import { parameters } from "./parameters.js";
import { openRunCheckpoint } from "./run_checkpoint.js";
import { isRunLayout } from "./run_layout.js";
import { exists, openShards, readShardIndex } from "./shards.js";

export interface CheckpointTensor {
  /** The type of the elements that `read` gives. */
  readonly dtype: WeightType;
  readonly shape: readonly number[];
  readonly bytes: number;
}

/** An open checkpoint, presented in the `transformers` layout whatever lies on disk. Holds file descriptors until disposed. */
export interface Checkpoint extends AsyncDisposable {
  readonly dir: string;
  readonly config: ModelConfig;
  /** The layout on disk. */
  readonly layout: CheckpointLayout;
  /** Every parameter of the model, in forward order, by its transformers name. */
  readonly tensors: ReadonlyMap<string, CheckpointTensor>;
  /** How the parameters lie in the files of the run layout, where they can be mapped; null in the other layouts. */
  readonly weights: WeightStorage | null;
  /**
   * The elements of a tensor as they are stored, row by row, experts stacked, panels unpacked; at the start of `into` when that is given (memory that
   * was used before is read into four times as fast as fresh memory).
   * @throws CHECKPOINT_INVALID naming the tensor when an element is NaN or infinite, INVALID_ARGUMENT when `into` is too small
   */
  read(name: string, into?: Uint8Array): Promise<Uint8Array>;
  /** The same as float32, exactly. */
  readFloat32(name: string): Promise<Float32Array>;
  /** Rows of a tensor, counted over all but its last dimension, as float32; of panels, whole ones of one matrix. */
  readRows(name: string, begin: number, end: number): Promise<Float32Array>;
  /** Where a tensor lies in a file, to be mapped; null where it is spread over several places or of a type that is not computed with. */
  placeOf(name: string): StoredPlace | null;
}

export interface StoredPlace {
  readonly path: string;
  readonly offset: number;
  readonly type: TensorType;
}

/**
 * Opens a folder with config.json and safetensors, single or sharded, of any config dialect and either layout.
 * Headers are read and held against the configuration; elements are read a tensor at a time, by `read`.
 *
 * @throws CONFIG_INVALID, or CHECKPOINT_INVALID naming the first unknown, missing or mis-shaped tensor
 */
export async function loadCheckpoint(dir: string): Promise<Checkpoint> {
  const json = await readConfigJson(dir);
  const shards = await openShards(dir, await readShardIndex(dir));
  try {
    if (isRunLayout(shards.metadata)) return openRunCheckpoint(dir, configOf(dir, json), shards);
    const layout = detectLayout(dir, shards.tensors.keys());
    const config = configOf(dir, json, queryRowsOf(shards.tensors));
    const sources = sourcesOf(config, layout);
    refuse(dir, nameProblems(shards.tensors.keys(), sources));
    refuse(dir, tensorProblems(shards.tensors, sources));

    const partsOf = (name: string) => {
      const source = sources.get(name) ?? fail("INVALID_ARGUMENT", `${name} is no parameter of this model`);
      return source.names.map((part) => shards.tensors.get(part) ?? fail("CHECKPOINT_INVALID", `missing tensor ${part}`));
    };
    const tensors = new Map<string, CheckpointTensor>();
    for (const { name, shape } of parameters(config)) {
      const parts = partsOf(name);
      tensors.set(name, { dtype: parts[0]?.dtype as WeightType, shape, bytes: parts.reduce((sum, part) => sum + part.bytes, 0) });
    }

    const checkpoint: Checkpoint = {
      dir,
      config,
      layout,
      tensors,
      weights: null,
      async read(name, into) {
        const parts = partsOf(name);
        const size = parts.reduce((sum, part) => sum + part.bytes, 0);
        if (into && into.length < size) fail("INVALID_ARGUMENT", `${name} has ${size} bytes, the buffer to read into ${into.length}`);
        const whole = into?.subarray(0, size) ?? new Uint8Array(size);
        let offset = 0;
        for (const part of parts) {
          const bytes = await shards.read(part, whole.subarray(offset, offset + part.bytes));
          expectFinite(dir, part.name, bytes, part.dtype as WeightType);
          offset += part.bytes;
        }
        return whole;
      },
      async readFloat32(name) {
        const bytes = await checkpoint.read(name);
        return toFloat32(bytes, (tensors.get(name) as CheckpointTensor).dtype);
      },
      async readRows(name, begin, end) {
        const parts = partsOf(name);
        const { dtype, shape, bytes } = tensors.get(name) as CheckpointTensor;
        expectRows(name, shape, begin, end);
        const rowBytes = bytes / shape.slice(0, -1).reduce((product, n) => product * n, 1);
        const whole = new Uint8Array((end - begin) * rowBytes);
        let row = 0;
        for (const part of parts) {
          const [first, last] = [Math.max(begin, row), Math.min(end, row + part.bytes / rowBytes)];
          if (first < last) {
            const rows = await shards.read(
              part,
              whole.subarray((first - begin) * rowBytes, (last - begin) * rowBytes),
              (first - row) * rowBytes,
            );
            expectFinite(dir, part.name, rows, dtype, ((first - row) * rowBytes) / elementBytes[dtype]);
          }
          row += part.bytes / rowBytes;
        }
        return toFloat32(whole, dtype);
      },
      placeOf(name) {
        const [first, second] = partsOf(name);
        const { dtype, shape } = tensors.get(name) as CheckpointTensor;
        const type = computed[dtype];
        return first && !second && type ? { path: first.path, offset: first.offset, type: tensor(type, shape) } : null;
      },
      [Symbol.asyncDispose]: () => shards.close(),
    };
    return checkpoint;
  } catch (error) {
    await shards.close();
    throw error;
  }
}

const elementBytes: Readonly<Record<WeightType, number>> = { F32: 4, BF16: 2, F16: 2 };
const computed: Readonly<Record<WeightType, DType | null>> = { F32: "float32", BF16: "bfloat16", F16: null };

/** @throws INVALID_ARGUMENT unless rows `begin` to `end` of a tensor are some, or none, of those it has */
export function expectRows(name: string, shape: readonly number[], begin: number, end: number): void {
  const rows = shape.slice(0, -1).reduce((product, n) => product * n, 1);
  if (!Number.isInteger(begin) || !Number.isInteger(end) || begin < 0 || begin > end || end > rows)
    fail("INVALID_ARGUMENT", `${name} has rows 0 to ${rows}; ${begin} to ${end} are not some of them`);
}

/** @throws CHECKPOINT_INVALID naming the tensor and the element, `begin` elements before which the bytes start */
export function expectFinite(dir: string, name: string, bytes: Uint8Array, dtype: WeightType, begin = 0): void {
  const broken = firstNotFinite(bytes, dtype);
  if (broken !== null) fail("CHECKPOINT_INVALID", `${dir}: tensor ${name} holds ${broken.what} at element ${begin + broken.element}`);
}

/** The parsed config.json of a folder. */
export async function readConfigJson(dir: string): Promise<unknown> {
  const path = join(dir, "config.json");
  const text = await readFile(path, "utf8").catch(async (cause: NodeJS.ErrnoException) => {
    if (cause.code !== "ENOENT") return fail("CONFIG_INVALID", `${path}: ${cause.message}`, cause);
    const newest = join(dir, "latest"); // in the folder of a training run
    const hint = (await exists(join(newest, "config.json"))) ? `the checkpoint is in ${newest}` : "give the folder of a checkpoint";
    return fail("CONFIG_INVALID", `${path}: no such file; ${hint}`, cause);
  });
  try {
    return JSON.parse(text) as unknown;
  } catch (cause) {
    return fail("CONFIG_INVALID", `${path}: not JSON: ${cause instanceof Error ? cause.message : cause}`, cause);
  }
}

/** `parseConfig` of a folder's config.json, which its errors name. */
export function configOf(dir: string, json: unknown, options: ParseConfigOptions = {}): ModelConfig {
  try {
    return parseConfig(json, options);
  } catch (error) {
    if (isZayaError(error) && error.message.startsWith("config.json: ")) fail("CONFIG_INVALID", join(dir, error.message), error);
    throw error;
  }
}

/** Rows of block 0's query projection, which decide where an original config does not tell its query heads. */
export function queryRowsOf(tensors: ReadonlyMap<string, { readonly shape: readonly number[] }>): { queryRows?: number } {
  const query =
    tensors.get("model.layers.0.self_attn.qkv.linear_q.weight") ?? tensors.get("model.layers.0.self_attn.qkv_proj.q_proj.weight");
  const rows = query?.shape[0];
  return rows === undefined ? {} : { queryRows: rows };
}

/** Stored bytes as float32. The bytes must start at a multiple of their element's size in their buffer. */
export function toFloat32(bytes: Uint8Array, dtype: WeightType): Float32Array {
  if (dtype === "F32") return new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
  const halves = new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 2);
  return dtype === "BF16" ? fromBfloat16(halves) : fromFloat16(halves);
}
