import { type FileHandle, open, rename, rm, stat, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { expectDiskRoom } from "./disk_room.js";
import { fail } from "./errors.js";
import { makeFolder } from "./make_folder.js";
import { readExactly, type SafetensorsEntry, safetensorsTypes } from "./safetensors.js";
import { singleWeights, weightIndex } from "./shards.js";

/**
 * Writes tensors as `model.safetensors`, or, above `shardBytes`, as `model-00001-of-0000n.safetensors` with
 * `model.safetensors.index.json`. Headers come first, so every tensor's place is known and tensors may arrive in any order.
 * Files grow under a `.partial` name; `finish` syncs them to the disk and only then gives them their names, the index last. Disposing leaves
 * partial files as they are, for a later writer to resume.
 */
export interface SafetensorsWriter extends AsyncDisposable {
  readonly files: readonly ShardFile[];
  /** @throws INVALID_ARGUMENT for an unknown name, a second time, or another number of bytes than the entry has */
  write(name: string, bytes: Uint8Array): Promise<void>;
  /**
   * Writes a part of a tensor, from byte `offset` on. Parts come in any order; they must not overlap.
   * @throws INVALID_ARGUMENT for an unknown name, or more bytes than the entry has
   */
  writePart(name: string, offset: number, bytes: Uint8Array): Promise<void>;
  /** @throws INVALID_ARGUMENT naming a tensor that was not written */
  finish(): Promise<void>;
  /** Whether files that an earlier writer of the same entries left are continued. */
  readonly resumed: boolean;
  /** Reads back a part, of an earlier writer too, into `into`. */
  readPart(name: string, offset: number, into: Uint8Array): Promise<Uint8Array>;
  /** Counts a part as written that is there from an earlier writer. */
  keepPart(name: string, offset: number, bytes: number): void;
  /** Removes what was written so far. */
  abort(): Promise<void>;
}

export interface SafetensorsOptions {
  readonly shardBytes?: number | undefined;
  /** What `__metadata__` says in every file, beside the format. */
  readonly metadata?: Readonly<Record<string, string>> | undefined;
  /** Continues partial files whose headers are the same. Default: they are written anew. */
  readonly resume?: boolean | undefined;
  /** Called when everything is on the disk, before the files get their names. */
  readonly beforeNames?: (() => Promise<void>) | undefined;
}

export interface ShardFile {
  readonly name: string;
  readonly bytes: number;
  readonly tensors: readonly SafetensorsEntry[];
}

/** Hugging Face's habit. */
const defaultShardBytes = 5e9;
const maxWriteBytes = 1 << 30;
/** What the system counts the room of a file in. */
const blockBytes = 512;
/** The elements of a file start at a multiple of this: a cache line, and no vector is longer. */
const alignment = 64;

/** @throws INVALID_ARGUMENT unless a file may have that many bytes */
export function expectShardBytes(shardBytes: number | undefined): void {
  if (shardBytes !== undefined && !(typeof shardBytes === "number" && shardBytes >= 1))
    fail(
      "INVALID_ARGUMENT",
      `shardBytes must be a number ≥ 1, received ${typeof shardBytes === "string" ? JSON.stringify(shardBytes) : shardBytes}`,
    );
}

/** How tensors are split over files, in the order given. A tensor is never split. */
export function shardFiles(
  entries: readonly SafetensorsEntry[],
  { shardBytes = defaultShardBytes, metadata = {} }: SafetensorsOptions = {},
): readonly ShardFile[] {
  expectShardBytes(shardBytes);
  const shards: SafetensorsEntry[][] = [];
  let room = 0;
  for (const entry of entries) {
    const bytes = entryBytes(entry);
    if (shards.length === 0 || bytes > room) {
      shards.push([]);
      room = shardBytes;
    }
    shards.at(-1)?.push(entry);
    room -= bytes;
  }
  const number = (n: number): string => String(n).padStart(5, "0");
  return shards.map((tensors, i) => {
    const name = shards.length === 1 ? singleWeights : `model-${number(i + 1)}-of-${number(shards.length)}.safetensors`;
    return { name, tensors, bytes: headerOf(tensors, metadata).length + tensors.reduce((sum, entry) => sum + entryBytes(entry), 0) };
  });
}

/**
 * Starts writing into a folder, which is made if needed.
 * @throws INVALID_ARGUMENT where two entries have one name, DISK_FULL where the disk has no room for all of them
 */
export async function createSafetensors(
  dir: string,
  entries: readonly SafetensorsEntry[],
  options: SafetensorsOptions = {},
): Promise<SafetensorsWriter> {
  const files = shardFiles(entries, options);
  await makeFolder(dir);
  const handles: FileHandle[] = [];
  const places = new Map<string, { handle: FileHandle; offset: number; bytes: number }>();
  const missing = new Map<string, number>(entries.map((entry) => [entry.name, entryBytes(entry)]));
  if (missing.size !== entries.length) fail("INVALID_ARGUMENT", "two tensors of one checkpoint have the same name");

  const partial = (file: ShardFile): string => join(dir, `${file.name}.partial`);
  const closeAll = async (): Promise<void> => {
    for (const handle of handles.splice(0)) await handle.close();
  };
  const abort = async (): Promise<void> => {
    await closeAll();
    for (const file of files) await rm(partial(file), { force: true });
  };
  const there = await Promise.all(files.map(async (file) => (await stat(partial(file)).catch(() => null))?.blocks ?? 0));
  const bytes = files.reduce((sum, file, i) => sum + file.bytes - blockBytes * (there[i] as number), 0);
  await expectDiskRoom(dir, bytes, { what: "the checkpoint", otherwise: "choose a folder on another disk" });
  let resumed = options.resume === true;
  for (const file of files) resumed &&= await beginsWith(partial(file), headerOf(file.tensors, options.metadata ?? {}));
  try {
    for (const file of files) {
      const handle = await open(partial(file), resumed ? "r+" : "w+");
      handles.push(handle);
      const header = headerOf(file.tensors, options.metadata ?? {});
      if (resumed)
        await handle.truncate(file.bytes); // what a power failure took away is zeros then, and not its owner's
      else await writeAll(handle, header, 0);
      let offset = header.length;
      for (const entry of file.tensors) {
        const bytes = entryBytes(entry);
        places.set(entry.name, { handle, offset, bytes });
        offset += bytes;
      }
    }
  } catch (error) {
    if (resumed) await closeAll();
    else await abort();
    throw error;
  }

  const placeOf = (name: string) => places.get(name) ?? fail("INVALID_ARGUMENT", `${name} is no tensor of this checkpoint`);
  function keepPart(name: string, offset: number, bytes: number): void {
    const place = placeOf(name);
    const left = missing.get(name) ?? fail("INVALID_ARGUMENT", `${name} is written twice`);
    if (offset + bytes > place.bytes || bytes > left)
      fail("INVALID_ARGUMENT", `${name} takes ${place.bytes} bytes, received ${bytes} at ${offset}`);
    if (left === bytes) missing.delete(name);
    else missing.set(name, left - bytes);
  }
  async function writePart(name: string, offset: number, bytes: Uint8Array): Promise<void> {
    const place = placeOf(name);
    keepPart(name, offset, bytes.length);
    await writeAll(place.handle, bytes, place.offset + offset);
  }

  return {
    files,
    resumed,
    keepPart,
    async readPart(name, offset, into) {
      const place = placeOf(name);
      await readExactly(place.handle, name, into, place.offset + offset);
      return into;
    },
    async write(name, bytes) {
      const place = placeOf(name);
      if (missing.has(name) && bytes.length !== place.bytes)
        fail("INVALID_ARGUMENT", `${name} takes ${place.bytes} bytes, received ${bytes.length}`);
      await writePart(name, 0, bytes);
    },
    writePart,
    async finish() {
      const [first] = missing.keys();
      if (first !== undefined)
        fail("INVALID_ARGUMENT", `${first} was not written (${missing.size} of ${entries.length} tensors are missing)`);
      for (const handle of handles) await handle.sync();
      await closeAll();
      await options.beforeNames?.();
      for (const file of files) await rename(partial(file), join(dir, file.name));
      if (files.length > 1) await writeFileAtomically(join(dir, weightIndex), indexOf(files));
      await syncFolder(dir);
    },
    abort,
    [Symbol.asyncDispose]: closeAll,
  };
}

/** Writes a small file so that it is there wholly or not at all, also after a power failure. */
export async function writeFileAtomically(path: string, content: string | Uint8Array): Promise<void> {
  const temporary = `${path}.partial`;
  await writeFile(temporary, content, { flush: true });
  await rename(temporary, path);
  await syncFolder(dirname(path));
}

function indexOf(files: readonly ShardFile[]): string {
  const total = files.reduce((sum, file) => sum + file.tensors.reduce((inner, entry) => inner + entryBytes(entry), 0), 0);
  const names = files.flatMap((file) => file.tensors.map((entry) => [entry.name, file.name] as const));
  return `${JSON.stringify({ metadata: { total_size: total }, weight_map: Object.fromEntries(names) }, null, 2)}\n`;
}

/** Length and JSON, padded with spaces so that the elements start aligned. */
function headerOf(tensors: readonly SafetensorsEntry[], metadata: Readonly<Record<string, string>>): Uint8Array {
  const header: Record<string, unknown> = { __metadata__: { format: "pt", ...metadata } };
  let offset = 0;
  for (const entry of tensors) {
    const end = offset + entryBytes(entry);
    header[entry.name] = { dtype: entry.dtype, shape: entry.shape, data_offsets: [offset, end] };
    offset = end;
  }
  const json = new TextEncoder().encode(JSON.stringify(header));
  const bytes = new Uint8Array(Math.ceil((8 + json.length) / alignment) * alignment).fill(0x20);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(bytes.length - 8), true);
  bytes.set(json, 8);
  return bytes;
}

export function entryBytes(entry: SafetensorsEntry): number {
  return entry.shape.reduce((product, n) => product * n, safetensorsTypes[entry.dtype]);
}

async function writeAll(handle: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const { bytesWritten } = await handle.write(bytes, done, Math.min(bytes.length - done, maxWriteBytes), position + done);
    done += bytesWritten;
  }
}

async function beginsWith(path: string, header: Uint8Array): Promise<boolean> {
  const handle = await open(path, "r").catch(() => null);
  if (!handle) return false;
  try {
    if ((await handle.stat()).size < header.length) return false;
    const there = new Uint8Array(header.length);
    await readExactly(handle, path, there, 0);
    return there.every((byte, i) => byte === header[i]);
  } finally {
    await handle.close();
  }
}

async function syncFolder(dir: string): Promise<void> {
  const handle = await open(dir, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
