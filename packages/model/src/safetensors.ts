import { type FileHandle, open } from "node:fs/promises";
import { fail } from "./errors.js";
import { duplicateKey } from "./json_keys.js";

/**
 * One safetensors file: 8 bytes header length (little endian), the header as JSON, then the elements.
 * The header maps a name to { dtype, shape, data_offsets: [begin, end] }, offsets counted from the end of the header;
 * `__metadata__` maps strings to strings. The parts must not overlap, leave no holes and end where the file ends.
 * https://huggingface.co/docs/safetensors
 */

/** Bytes an element of each type the format knows. */
export const safetensorsTypes = {
  BOOL: 1,
  U8: 1,
  I8: 1,
  F8_E5M2: 1,
  F8_E4M3: 1,
  I16: 2,
  U16: 2,
  F16: 2,
  BF16: 2,
  I32: 4,
  U32: 4,
  F32: 4,
  F64: 8,
  I64: 8,
  U64: 8,
} as const;
type SafetensorsType = keyof typeof safetensorsTypes;

export interface SafetensorsEntry {
  readonly name: string;
  readonly dtype: SafetensorsType;
  readonly shape: readonly number[];
}

/** An entry of a file with where its bytes lie, counted from the start of the file. */
export interface StoredTensor extends SafetensorsEntry {
  readonly path: string;
  readonly offset: number;
  readonly bytes: number;
}

/** An open file. Reading is positional, so several reads can run at once. */
export interface SafetensorsFile {
  readonly path: string;
  readonly tensors: ReadonlyMap<string, StoredTensor>;
  readonly metadata: Readonly<Record<string, string>>;
  /**
   * The bytes of a tensor, written into `into` when given; from byte `begin` on as many as it takes.
   * @throws INVALID_ARGUMENT for a name that is not there, or bytes outside of the tensor
   */
  read(name: string, into?: Uint8Array, begin?: number): Promise<Uint8Array>;
  close(): Promise<void>;
}

/** The format's own limit on the header. */
const maxHeaderBytes = 100_000_000;
/** One read of the system takes less than 2 GiB. */
const maxReadBytes = 1 << 30;

/**
 * Opens a file and checks its header: nothing of the elements is read.
 * @throws CHECKPOINT_INVALID naming file and tensor
 */
export async function openSafetensors(path: string): Promise<SafetensorsFile> {
  const handle = await open(path, "r").catch((cause: NodeJS.ErrnoException) =>
    fail("CHECKPOINT_INVALID", cause.code === "ENOENT" ? `${path}: no such file` : `${path}: ${cause.message}`, cause),
  );
  try {
    const { tensors, metadata } = await readHeader(handle, path);
    return {
      path,
      tensors,
      metadata,
      async read(name, into, begin = 0) {
        const tensor = tensors.get(name) ?? fail("INVALID_ARGUMENT", `${path} has no tensor ${name}`);
        const bytes = into ?? new Uint8Array(tensor.bytes - begin);
        if (begin < 0 || begin + bytes.length > tensor.bytes)
          fail("INVALID_ARGUMENT", `${name} has ${tensor.bytes} bytes, asked for ${bytes.length} from ${begin} on`);
        await readExactly(handle, path, bytes, tensor.offset + begin);
        return bytes;
      },
      close: () => handle.close(),
    };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

async function readHeader(handle: FileHandle, path: string): Promise<Pick<SafetensorsFile, "tensors" | "metadata">> {
  const invalid = (problem: string): never => fail("CHECKPOINT_INVALID", `${path}: ${problem}`);
  const { size } = await handle.stat();
  if (size < 8) invalid(`not a safetensors file: ${size} bytes are too few`);
  const prefix = new Uint8Array(8);
  await readExactly(handle, path, prefix, 0);
  const length = new DataView(prefix.buffer).getBigUint64(0, true);
  const headerBytes = Number(length);
  if (headerBytes > maxHeaderBytes) invalid(`not a safetensors file: a header of ${length} bytes is above the limit of ${maxHeaderBytes}`);
  if (8 + headerBytes > size) invalid(`truncated: the header needs ${8 + headerBytes} bytes, the file has ${size}`);
  const bytes = new Uint8Array(headerBytes);
  await readExactly(handle, path, bytes, 8);
  let text: string;
  let header: unknown;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    header = JSON.parse(text);
  } catch (cause) {
    return fail("CHECKPOINT_INVALID", `${path}: the header is not JSON`, cause);
  }
  if (!isRecord(header)) return invalid("the header is not a JSON object");
  const twice = duplicateKey(text);
  if (twice !== null) invalid(`${twice} is there twice`);

  const metadata: Record<string, string> = {};
  const tensors: StoredTensor[] = [];
  for (const [name, entry] of Object.entries(header)) {
    if (name !== "__metadata__") {
      tensors.push(readEntry(name, entry, path, 8 + headerBytes, invalid));
      continue;
    }
    if (!isRecord(entry)) return invalid("__metadata__ is not an object");
    for (const [key, value] of Object.entries(entry))
      metadata[key] = typeof value === "string" ? value : invalid(`__metadata__.${key} is not a string`);
  }

  tensors.sort((a, b) => a.offset - b.offset || a.bytes - b.bytes);
  let end = 8 + headerBytes;
  let before = "the header";
  for (const tensor of tensors) {
    if (tensor.offset < end) invalid(`${tensor.name} overlaps ${before}`);
    if (tensor.offset > end) invalid(`${tensor.offset - end} bytes between ${before} and ${tensor.name} belong to no tensor`);
    end += tensor.bytes;
    before = tensor.name;
    if (end > size) invalid(`truncated: ${tensor.name} ends at byte ${end}, the file has ${size}`);
  }
  if (end < size) invalid(`the last ${size - end} bytes belong to no tensor`);
  return { tensors: new Map(tensors.map((tensor) => [tensor.name, tensor])), metadata };
}

function readEntry(name: string, entry: unknown, path: string, dataBegin: number, invalid: (problem: string) => never): StoredTensor {
  if (!isRecord(entry)) return invalid(`${name} is not described by an object`);
  const { dtype, shape, data_offsets: offsets } = entry;
  if (typeof dtype !== "string" || !Object.hasOwn(safetensorsTypes, dtype)) return invalid(`${name} has the unknown type ${show(dtype)}`);
  if (!isSizes(shape)) return invalid(`${name} has an invalid shape ${show(shape)}`);
  if (!isSizes(offsets) || offsets.length !== 2) return invalid(`${name} has invalid data_offsets ${show(offsets)}`);
  const [begin, end] = offsets as [number, number];
  const bytes = shape.reduce((product, n) => product * n, safetensorsTypes[dtype as SafetensorsType]);
  if (!Number.isSafeInteger(bytes) || end - begin !== bytes) {
    return invalid(`${name} of type ${dtype} and shape [${shape.join(", ")}] needs ${bytes} bytes, data_offsets give it ${end - begin}`);
  }
  return { name, dtype: dtype as SafetensorsType, shape, path, offset: dataBegin + begin, bytes };
}

/** A value of a header in a message: what lies deeper than a list is not shown, it may have no end. */
function show(value: unknown): string {
  const flat = (item: unknown) => (typeof item === "object" && item !== null ? "…" : JSON.stringify(item));
  return Array.isArray(value) ? `[${value.map(flat).join(",")}]` : flat(value);
}

export async function readExactly(handle: FileHandle, path: string, into: Uint8Array, position: number): Promise<void> {
  let done = 0;
  while (done < into.length) {
    const { bytesRead } = await handle.read(into, done, Math.min(into.length - done, maxReadBytes), position + done);
    if (bytesRead === 0)
      fail("CHECKPOINT_INVALID", `${path}: truncated: expected ${into.length - done} more bytes at byte ${position + done}`);
    done += bytesRead;
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isSizes(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((n) => Number.isSafeInteger(n) && n >= 0);
}
