import { mkdir, readdir, readFile, rename, rm, stat } from "node:fs/promises";
import { join, resolve } from "node:path";
import { type DType, maxBytes, openDevice, type TensorType, tensor } from "@zaya/kernels";
import { type Checkpoint, loadCheckpoint } from "../checkpoint.js";
import { fail, type ModelErrorCode } from "../errors.js";
import { takeLock } from "../lock.js";
import { tensorParts } from "../panels.js";
import { elements, type ParameterSpec, parameters } from "../parameters.js";
import { runFormatVersion } from "../run_layout.js";
import { type RunKind, runTypes } from "../run_types.js";
import { createCheckpointWriter, readTokenizerFiles } from "../save.js";
import { exists } from "../shards.js";
import { loadTokenizer } from "../tokenizer/tokenizer.js";
import { type CalibrateWindow, type Importance, measureImportance } from "./importance.js";
import { hashOf, openJournal, partKey, readJournal } from "./journal.js";
import { openPacker } from "./packer.js";
import { textWindows } from "./windows.js";

export type Width = 4 | 6 | 8;

export interface QuantiseOptions {
  /** Folder of a checkpoint in any layout. */
  readonly from: string;
  /** New folder, or that of an interrupted run of the same job. */
  readonly out: string;
  readonly to: RunKind;
  /** Bits of the attention's projections of q4. Default 8. */
  readonly attention?: Width | undefined;
  /** Bits of embedding and head of q4. Default 8. */
  readonly head?: Width | undefined;
  /** Text on which the model is run first, to find which columns of its weights count most; needs the memory to run it. */
  readonly calibrate?: string | undefined;
  /** Tokens of that text that are read. Default 16384. */
  readonly calibrateTokens?: number | undefined;
  /** Told while calibration reads the weights: bytes done, and bytes of all. */
  readonly onProgress?: ((doneBytes: number, totalBytes: number) => void) | undefined;
  /** Only say what would be written. */
  readonly dryRun?: boolean | undefined;
  readonly threads?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

export type QuantiseEvent =
  | {
      readonly type: "quantise-start";
      readonly parameters: number;
      readonly bytesBefore: number;
      readonly bytesAfter: number;
      /** Whether an interrupted run left something; what of it is whole is not made again. */
      readonly resumes: boolean;
    }
  | CalibrateWindow
  | { readonly type: "tensor-end"; readonly name: string; readonly dtype: DType; readonly doneBytes: number; readonly totalBytes: number }
  | { readonly type: "quantise-end"; readonly out: string; readonly bytes: number; readonly keptBytes: number; readonly dryRun: boolean };

/** Elements that are read and packed at once. */
const partElements = 2 ** 22;
const calibrationTokens = 16384;
const lockOptions = { code: "CHECKPOINT_LOCKED" satisfies ModelErrorCode, doing: "quantising into this folder" };
const integers = { 4: "int4", 6: "int6", 8: "int8" } as const;

/**
 * Writes a checkpoint in the run layout (run_layout.ts), with matrices of fewer bits, a few megabytes at a time: memory does not grow with the
 * model, except for calibration, which runs it. An interrupted run leaves partial files and a journal; the same call again checks and continues
 * them, to the same bytes. config.json comes last.
 *
 * @throws CHECKPOINT_INVALID, CHECKPOINT_EXISTS, CHECKPOINT_LOCKED, INVALID_ARGUMENT, or the signal's reason
 * @example for await (const event of quantiseCheckpoint({ from: "zaya1-8b", out: "zaya1-8b-q4", to: "q4" })) console.log(event);
 */
export async function* quantiseCheckpoint(options: QuantiseOptions): AsyncGenerator<QuantiseEvent, void, undefined> {
  const { from, out, to, attention = 8, head = 8, threads, dryRun = false, signal } = options;
  signal?.throwIfAborted();
  if (resolve(from) === resolve(out)) fail("INVALID_ARGUMENT", `${out}: a checkpoint cannot be quantised in place, choose another folder`);
  await using checkpoint = await loadCheckpoint(from);
  const { config } = checkpoint;
  const specs = parameters(config);
  const typeOf = runTypes(to, { attention: integers[attention], head: integers[head] });
  const types = new Map<string, TensorType>();
  for (const spec of specs) types.set(spec.name, await exactType(checkpoint, spec, typeOf(spec)));
  const totalBytes = [...types.values()].reduce((sum, type) => sum + maxBytes(type), 0);
  const journalPath = join(out, "quantise.journal");
  if (!dryRun) await mkdir(out, { recursive: true });
  await using lock = dryRun ? null : await takeLock(join(out, "quantise.lock"), lockOptions);
  const left = await prepareFolder(out, journalPath, dryRun);
  yield {
    type: "quantise-start",
    parameters: specs.reduce((sum, spec) => sum + elements(spec), 0),
    bytesBefore: [...checkpoint.tensors.values()].reduce((sum, { bytes }) => sum + bytes, 0),
    bytesAfter: totalBytes,
    resumes: left !== "nothing",
  };
  if (dryRun) return yield { type: "quantise-end", out, bytes: totalBytes, keptBytes: 0, dryRun };

  await using device = await openDevice("cpu", threads === undefined ? {} : { threads });
  const tokenizerFiles = await readTokenizerFiles(from);
  let importance: Importance = new Map();
  if (options.calibrate !== undefined) {
    if (!("tokenizer.json" in tokenizerFiles)) fail("INVALID_ARGUMENT", `${from}: calibration needs the checkpoint's tokenizer.json`);
    const maxTokens = options.calibrateTokens ?? calibrationTokens;
    const windows = textWindows(await loadTokenizer(tokenizerFiles), await readText(options.calibrate), { maxTokens });
    importance = yield* measureImportance(checkpoint, windows, { device, onProgress: options.onProgress, signal });
  }

  const job = {
    format: runFormatVersion,
    isa: device.isa,
    source: await sourceFiles(from),
    types: [...types],
    importance: [...importance].map(([name, columns]) => [name, hashOf(columns)]),
  };
  const fingerprint = hashOf(JSON.stringify(job));
  if (left === "all") {
    if (!(await readJournal(journalPath, fingerprint))) holdsCheckpoint(out, "config.json");
    await lock?.[Symbol.asyncDispose]();
    await rm(journalPath, { force: true });
    return yield { type: "quantise-end", out, bytes: totalBytes, keptBytes: totalBytes, dryRun };
  }
  await using journal = await openJournal(journalPath, fingerprint);
  const writer = await createCheckpointWriter(out, { config, types, tokenizerFiles, resume: true });
  await using packer = openPacker(device);
  let doneBytes = 0;
  let keptBytes = 0;
  try {
    for (const spec of specs) {
      const type = types.get(spec.name) as TensorType;
      for (const part of partsOf(spec, type)) {
        signal?.throwIfAborted();
        const key = partKey(spec.name, part.offset);
        const known = writer.resumed ? journal.done.get(key) : undefined;
        if (known !== undefined && hashOf(await writer.readPart(spec.name, part.offset, new Uint8Array(part.bytes))) === known) {
          writer.keepPart(spec.name, part.offset, part.bytes);
          keptBytes += part.bytes;
        } else {
          const values = await part.read(checkpoint);
          const bytes = await packer.pack(part.type, values, part.columns(importance));
          await writer.writePart(spec.name, part.offset, bytes);
          await journal.add(key, hashOf(bytes));
        }
        doneBytes += part.bytes;
      }
      yield { type: "tensor-end", name: spec.name, dtype: type.dtype, doneBytes, totalBytes };
    }
    await writer.finish();
    await lock?.[Symbol.asyncDispose](); // before the journal: while that is there, the next call removes what is left
    await journal.remove();
  } finally {
    await writer.close();
  }
  yield { type: "quantise-end", out, bytes: totalBytes, keptBytes, dryRun };
}

/** A piece of a tensor: where it comes from, how it is packed, and where it goes. */
interface Part {
  readonly type: TensorType;
  readonly offset: number;
  readonly bytes: number;
  read(checkpoint: Checkpoint): Promise<Float32Array>;
  /** What the columns of this part count, where it is known. */
  columns(importance: Importance): Float32Array | null;
}

const streamed: readonly ParameterSpec["kind"][] = ["embedding", "head", "matrix", "expert"];

/** Large matrices come in runs of whole panels; everything else is small and comes whole. */
function* partsOf(spec: ParameterSpec, type: TensorType): Generator<Part> {
  if (!streamed.includes(spec.kind)) {
    yield { type, offset: 0, bytes: maxBytes(type), read: (checkpoint) => checkpoint.readFloat32(spec.name), columns: () => null };
    return;
  }
  const matrixRows = spec.shape.at(-2) as number;
  for (const { matrix, row, rows, columns, offset, bytes } of tensorParts(type, partElements)) {
    const begin = matrix * matrixRows + row;
    yield {
      type: tensor(type.dtype, [rows, columns], type.encoding),
      offset,
      bytes,
      read: (checkpoint) => checkpoint.readRows(spec.name, begin, begin + rows),
      columns: (importance) =>
        importance
          .get(spec.name)
          ?.subarray(matrix * columns)
          .subarray(0, columns) ?? null,
    };
  }
}

/** Router and convolutions stay in float32 where bfloat16 cannot hold their values. */
async function exactType(checkpoint: Checkpoint, { name }: ParameterSpec, type: TensorType): Promise<TensorType> {
  if (type.dtype !== "bfloat16" || checkpoint.tensors.get(name)?.dtype === "BF16") return type;
  const values = await checkpoint.readFloat32(name);
  const words = new Uint32Array(values.buffer, values.byteOffset, values.length);
  return words.every((word) => (word & 0xffff) === 0) ? type : tensor("float32", type.shape, type.encoding);
}

/**
 * Makes sure that no checkpoint is there, and that what an interrupted run left can be continued: also one that was stopped between giving the
 * weights their name and writing config.json. Returns what it left; "all" where only the journal was still to be removed.
 */
async function prepareFolder(out: string, journal: string, dryRun: boolean): Promise<"nothing" | "parts" | "all"> {
  const files = await readdir(out).catch(() => [] as string[]);
  const resumes = await exists(journal);
  const there = files.find((name) => name === "config.json") ?? files.find((name) => /^model.*\.safetensors(\.index\.json)?$/.test(name));
  if (there !== undefined && !dryRun) {
    if (!resumes) holdsCheckpoint(out, there);
    if (there === "config.json") return "all";
    await rename(join(out, "model.safetensors"), join(out, "model.safetensors.partial"));
  }
  return resumes ? "parts" : "nothing";
}

function holdsCheckpoint(out: string, file: string): never {
  fail("CHECKPOINT_EXISTS", `${out} holds a checkpoint already (${file}); choose another folder`);
}

/** Names, sizes and times of what a checkpoint consists of. */
async function sourceFiles(dir: string): Promise<readonly unknown[]> {
  const names = (await readdir(dir)).filter((name) => name === "config.json" || name.endsWith(".safetensors")).sort();
  return await Promise.all(
    names.map(async (name) => {
      const { size, mtimeMs } = await stat(join(dir, name));
      return [name, size, mtimeMs];
    }),
  );
}

async function readText(path: string): Promise<string> {
  return await readFile(path, "utf8").catch((cause: NodeJS.ErrnoException) =>
    fail("INVALID_ARGUMENT", cause.code === "ENOENT" ? `${path}: no such file` : `${path}: ${cause.message}`, cause),
  );
}
