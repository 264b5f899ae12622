import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { fail } from "./errors.js";
import { duplicateKey } from "./json_keys.js";
import { openSafetensors, type SafetensorsFile, type StoredTensor } from "./safetensors.js";

/** The names of a checkpoint's tensors and the file of each, as the folder tells without opening the weights. */
export interface ShardIndex {
  /** Tensor name → file name; null for a single `model.safetensors`, whose header has the names. */
  readonly fileOf: ReadonlyMap<string, string> | null;
  readonly files: readonly string[];
}

/** The weights of a folder, opened: every header read and checked, no elements. */
export interface Shards {
  readonly tensors: ReadonlyMap<string, StoredTensor>;
  /** `__metadata__` of the first file. */
  readonly metadata: Readonly<Record<string, string>>;
  /** Fills `into` with the bytes of a tensor, from byte `begin` on. */
  read(tensor: StoredTensor, into: Uint8Array, begin?: number): Promise<Uint8Array>;
  close(): Promise<void>;
}

/** Where all weights are in one file. */
export const singleWeights = "model.safetensors";
/** Which file each tensor is in, where there are several. */
export const weightIndex = "model.safetensors.index.json";

/** @throws CHECKPOINT_INVALID */
export async function readShardIndex(dir: string): Promise<ShardIndex> {
  if (await exists(join(dir, singleWeights))) return { fileOf: null, files: [singleWeights] };
  const text = await readFile(join(dir, weightIndex), "utf8").catch(() =>
    fail("CHECKPOINT_INVALID", `${dir}: neither ${singleWeights} nor ${weightIndex} is there`),
  );
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    return fail("CHECKPOINT_INVALID", `${join(dir, weightIndex)}: not JSON`, cause);
  }
  const twice = duplicateKey(text);
  if (twice !== null) fail("CHECKPOINT_INVALID", `${join(dir, weightIndex)}: ${twice} is there twice`);
  const map = (json as { weight_map?: unknown } | null)?.weight_map;
  if (typeof map !== "object" || map === null || Array.isArray(map))
    return fail("CHECKPOINT_INVALID", `${join(dir, weightIndex)}: weight_map is missing`);
  const fileOf = new Map<string, string>();
  for (const [name, file] of Object.entries(map)) {
    if (typeof file !== "string" || !/^[^/\\]+\.safetensors$/.test(file)) {
      return fail(
        "CHECKPOINT_INVALID",
        `${join(dir, weightIndex)}: ${name}: expected the name of a .safetensors file in the same folder, received ${JSON.stringify(file)}`,
      );
    }
    fileOf.set(name, file);
  }
  return { fileOf, files: [...new Set(fileOf.values())].sort() };
}

/**
 * Opens all files of an index and holds them against it.
 * @throws CHECKPOINT_INVALID naming file and tensor
 */
export async function openShards(dir: string, index: ShardIndex): Promise<Shards> {
  const files = new Map<string, SafetensorsFile>();
  const close = async (): Promise<void> => {
    for (const file of files.values()) await file.close();
    files.clear();
  };
  try {
    const tensors = new Map<string, StoredTensor>();
    for (const name of index.files) {
      const file = await openSafetensors(join(dir, name));
      files.set(file.path, file);
      for (const tensor of file.tensors.values()) {
        if (tensors.has(tensor.name)) fail("CHECKPOINT_INVALID", `${tensor.name} is in two files`);
        const expected = index.fileOf?.get(tensor.name);
        if (index.fileOf && expected !== name) {
          fail(
            "CHECKPOINT_INVALID",
            expected ? `${tensor.name} is in ${name}, ${weightIndex} says ${expected}` : `${name}: ${tensor.name} is not in ${weightIndex}`,
          );
        }
        tensors.set(tensor.name, tensor);
      }
    }
    for (const [name, file] of index.fileOf ?? []) {
      if (!tensors.has(name)) fail("CHECKPOINT_INVALID", `${file}: ${name} is missing, ${weightIndex} names it`);
    }
    const fileFor = (tensor: StoredTensor): SafetensorsFile => files.get(tensor.path) ?? fail("DISPOSED", "the checkpoint is closed");
    const metadata = files.values().next().value?.metadata ?? {};
    return { tensors, metadata, read: async (tensor, into, begin) => fileFor(tensor).read(tensor.name, into, begin), close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** The file that makes a folder look like a checkpoint, config.json before weights, or undefined. */
export async function checkpointIn(dir: string): Promise<string | undefined> {
  const files = (await readdir(dir).catch(() => [] as string[])).sort(); // "config.json" sorts before "model…"
  return files.find((name) => name === "config.json" || /^model.*\.safetensors(\.index\.json)?$/.test(name));
}

/** @throws CHECKPOINT_EXISTS */
export function holdsCheckpoint(dir: string, file: string, advice = "choose another folder"): never {
  fail("CHECKPOINT_EXISTS", `${dir} holds a checkpoint already (${file}); ${advice}`);
}

/** Whether a path is there. */
export async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}
