import { rm } from "node:fs/promises";
import { join, resolve } from "node:path";
import { type Device, type DType, isQuantised, maxBytes, openDevice, type TensorType, tensor } from "@zaya/kernels";
import { type Checkpoint, loadCheckpoint } from "../checkpoint.js";
import type { ModelConfig } from "../config.js";
import { expectWholeNumber, fail, type ModelErrorCode } from "../errors.js";
import { takeLock } from "../lock.js";
import { makeFolder } from "../make_folder.js";
import { elements, type ParameterSpec, parameters } from "../parameters.js";
import { readText } from "../read_text.js";
import { runFormatVersion } from "../run_layout.js";
import { type RunKind, runKinds, runTypes } from "../run_types.js";
import type { SafetensorsWriter } from "../safetensors_writer.js";
import { createCheckpointWriter, readTokenizerFiles, type TokenizerFiles } from "../save.js";
import { holdsCheckpoint } from "../shards.js";
import { expectRoomToRun } from "./expect_room.js";
import { prepareFolder, sourceFiles } from "./folder.js";
import { type CalibrateWindow, type Importance, measureImportance } from "./importance.js";
import { hashOf, type Journal, openJournal, partKey, readJournal, requestOf } from "./journal.js";
import { openPacker } from "./packer.js";
import { partsOf } from "./parts.js";
import { textWindows, tokenizerFor } from "./windows.js";

export type Width = 4 | 6 | 8;

export interface QuantiseOptions {
  /** Folder of a checkpoint in any layout, not quantised yet. */
  readonly from: string;
  /** New folder, or that of an interrupted run of the same job. */
  readonly out: string;
  readonly to: RunKind;
  /** Bits of the attention's projections of q4. Default 8. */
  readonly attention?: Width | undefined;
  /** Bits of embedding and head of q4. Default 8. */
  readonly head?: Width | undefined;
  /** Text on which the model is run first, to find which columns of the weights of q4 count most; needs the memory to run it. */
  readonly calibrate?: string | undefined;
  /** Tokens of that text that are read. Default 16384. */
  readonly calibrateTokens?: number | undefined;
  /** Told while calibration reads the weights: bytes done, and bytes of all. */
  readonly onProgress?: ((doneBytes: number, totalBytes: number) => void) | undefined;
  /** Only say what would be written, or that it would be refused. */
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

/** Tokens of the text that calibration reads. */
const calibrationTokens = 16384;
const lockOptions = { code: "CHECKPOINT_LOCKED" satisfies ModelErrorCode, doing: "quantising into this folder" };
const integers = { 4: "int4", 6: "int6", 8: "int8" } as const;

/**
 * Writes a checkpoint in the run layout (run_layout.ts), with matrices of fewer bits, a few megabytes at a time: memory does not grow with the
 * model, except for calibration, which runs it. An interrupted run leaves partial files and a journal; the same call again checks and continues
 * them, to the same bytes. config.json comes last.
 *
 * @throws CHECKPOINT_INVALID, CHECKPOINT_EXISTS, CHECKPOINT_LOCKED, DISK_FULL, INVALID_ARGUMENT, or the signal's reason
 * @example for await (const event of quantiseCheckpoint({ from: "zaya1-8b", out: "zaya1-8b-q4", to: "q4" })) console.log(event);
 */
export async function* quantiseCheckpoint(options: QuantiseOptions): AsyncGenerator<QuantiseEvent, void, undefined> {
  const { from, out, threads, dryRun = false, signal } = options;
  signal?.throwIfAborted();
  if (!runKinds.includes(options.to)) fail("INVALID_ARGUMENT", `to: expected ${runKinds.join(", ")}, received ${options.to}`);
  for (const what of ["attention", "head"] as const) {
    const { [what]: bits = 8 } = options;
    if (!Object.hasOwn(integers, bits))
      fail("INVALID_ARGUMENT", `${what}: expected ${Object.keys(integers).join(", ")} bits, received ${bits}`);
  }
  if (options.calibrate !== undefined && options.to !== "q4")
    fail("INVALID_ARGUMENT", `calibrate: only q4 rounds by what counts most, ${options.to} does not look at it; leave it out`);
  if (resolve(from) === resolve(out)) fail("INVALID_ARGUMENT", `${out}: a checkpoint cannot be quantised in place, choose another folder`);
  await using checkpoint = await loadCheckpoint(from);
  expectExact(checkpoint);
  const { config } = checkpoint;
  const types = await chooseTypes(checkpoint, options);
  const tokenizerFiles = await readTokenizerFiles(from);
  const windows = await calibrationWindows(options, config, tokenizerFiles);
  if (windows) expectRoomToRun([checkpoint], "calibration");
  const totalBytes = [...types.values()].reduce((sum, type) => sum + maxBytes(type), 0);
  const journalPath = journalOf(out);
  if (!dryRun) await makeFolder(out);
  await using lock = dryRun ? null : await takeLock(join(out, "quantise.lock"), lockOptions);
  const left = await prepareFolder(out, journalPath, dryRun);
  const asked = { format: runFormatVersion, source: await sourceFiles(from), types: [...types] };
  const request = hashOf(JSON.stringify([asked, windows?.map(hashOf)]));
  if (left === "parts" && ![request, null].includes(await requestOf(journalPath)))
    fail("CHECKPOINT_EXISTS", `${out} holds what an interrupted run of another job left; choose another folder, or remove that one`);
  yield {
    type: "quantise-start",
    parameters: parameters(config).reduce((sum, spec) => sum + elements(spec), 0),
    bytesBefore: storedBytes(checkpoint),
    bytesAfter: totalBytes,
    resumes: left !== "nothing",
  };
  if (dryRun) return yield { type: "quantise-end", out, bytes: totalBytes, keptBytes: 0, dryRun };

  await using writer = left === "all" ? null : await createCheckpointWriter(out, { config, types, tokenizerFiles, resume: true });
  await using device = await openDevice("cpu", threads === undefined ? {} : { threads });
  const importance: Importance = windows
    ? yield* measureImportance(checkpoint, windows, { device, onProgress: options.onProgress, signal })
    : new Map();
  const job = {
    ...asked,
    isa: device.isa,
    importance: [...importance].map(([name, columns]) => [name, hashOf(columns)]),
  };
  const fingerprint = hashOf(JSON.stringify(job));
  if (!writer) {
    if (!(await readJournal(journalPath, fingerprint))) holdsCheckpoint(out, "config.json");
    await lock?.[Symbol.asyncDispose]();
    await rm(journalPath, { force: true });
    return yield { type: "quantise-end", out, bytes: totalBytes, keptBytes: totalBytes, dryRun };
  }
  try {
    await using journal = await openJournal(journalPath, fingerprint, request);
    const keptBytes = yield* writeTensors({ checkpoint, types, device, importance, writer, journal, totalBytes, signal });
    await lock?.[Symbol.asyncDispose](); // before the journal: while that is there, the next call removes what is left
    await journal.remove();
    yield { type: "quantise-end", out, bytes: totalBytes, keptBytes, dryRun };
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== "ENOSPC") throw cause;
    fail("DISK_FULL", `no space is left on the disk of ${out}; free some and run again: what is there is kept`, cause);
  }
}

/**
 * Says, before there is anything to quantise, what {@link quantiseCheckpoint} would say of the folder of its result.
 *
 * @throws CHECKPOINT_EXISTS where a checkpoint is there that no interrupted run left
 */
export async function expectNoCheckpoint(out: string): Promise<void> {
  await prepareFolder(out, journalOf(out), true);
}

function journalOf(out: string): string {
  return join(out, "quantise.journal");
}

interface Writing {
  readonly checkpoint: Checkpoint;
  readonly types: ReadonlyMap<string, TensorType>;
  readonly device: Device;
  readonly importance: Importance;
  readonly writer: SafetensorsWriter;
  readonly journal: Journal;
  readonly totalBytes: number;
  readonly signal: AbortSignal | undefined;
}

/** Packs and writes every tensor that an earlier run did not, and finishes the files. Returns how many bytes were kept. */
async function* writeTensors(writing: Writing): AsyncGenerator<QuantiseEvent, number, undefined> {
  const { checkpoint, types, device, importance, writer, journal, totalBytes, signal } = writing;
  await using packer = openPacker(device);
  let doneBytes = 0;
  let keptBytes = 0;
  for (const spec of parameters(checkpoint.config)) {
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
  return keptBytes;
}

/**
 * Refuses what is quantised already: rounding rounded weights again loses more than either rounding, and no wider type brings back what is lost.
 *
 * @throws INVALID_ARGUMENT
 */
function expectExact({ dir, weights }: Checkpoint): void {
  const quantised = new Set([...(weights?.types?.values() ?? [])].filter(isQuantised).map(({ dtype }) => dtype));
  if (quantised.size > 0)
    fail(
      "INVALID_ARGUMENT",
      `${dir} holds ${[...quantised].join(" and ")} weights already; quantise the bfloat16 checkpoint it was made from`,
    );
}

/** The types of the new file, by name. */
async function chooseTypes(
  checkpoint: Checkpoint,
  { to, attention = 8, head = 8 }: QuantiseOptions,
): Promise<ReadonlyMap<string, TensorType>> {
  const typeOf = runTypes(to, { attention: integers[attention], head: integers[head] });
  const types = new Map<string, TensorType>();
  for (const spec of parameters(checkpoint.config)) types.set(spec.name, await exactType(checkpoint, spec, typeOf(spec)));
  return types;
}

/** Bytes of a checkpoint's tensors as they lie in its files. */
function storedBytes({ tensors, weights }: Checkpoint): number {
  return [...tensors].reduce((sum, [name, { bytes }]) => {
    const type = weights?.types?.get(name);
    return sum + (type ? maxBytes(type) : bytes);
  }, 0);
}

/** What calibration reads; null where there is none. */
async function calibrationWindows(
  { from, calibrate, calibrateTokens = calibrationTokens }: QuantiseOptions,
  config: ModelConfig,
  tokenizerFiles: TokenizerFiles,
): Promise<readonly Int32Array[] | null> {
  if (calibrate === undefined) return null;
  expectWholeNumber("calibrateTokens", calibrateTokens, 1);
  const text = await readText(calibrate, calibrateTokens);
  if (!("tokenizer.json" in tokenizerFiles)) fail("INVALID_ARGUMENT", `${from}: calibration needs the checkpoint's tokenizer.json`);
  return textWindows(await tokenizerFor(tokenizerFiles, config.vocabSize), text, { maxTokens: calibrateTokens });
}

/** Router and convolutions stay in float32 where bfloat16 cannot hold their values. */
async function exactType(checkpoint: Checkpoint, { name }: ParameterSpec, type: TensorType): Promise<TensorType> {
  if (type.dtype !== "bfloat16" || checkpoint.tensors.get(name)?.dtype === "BF16") return type;
  const values = await checkpoint.readFloat32(name);
  const words = new Uint32Array(values.buffer, values.byteOffset, values.length);
  return words.every((word) => (word & 0xffff) === 0) ? type : tensor("float32", type.shape, type.encoding);
}
