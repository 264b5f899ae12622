// A checkpoint of a run is a folder that any loader of the transformers layout opens, with what training needs beside the weights:
//   checkpoints/step-00000500/config.json, model.safetensors, tokenizer.json …   the weights, float32
//   checkpoints/step-00000500/training/state.bin                                  the optimizer's tensors, one after the other
//   checkpoints/step-00000500/training/step.graph.pb                              what was run, as decodeGraph of @zaya/kernels reads it, and
//                                                                                 accumulate.graph.pb where a step has several microbatches
//   checkpoints/step-00000500/manifest.json                                       step, position, seed, every file's size and sha256, and its own
// It is written under another name, each file synced, the manifest last, and then renamed: a folder called step-… is complete.
// No time or machine is in it: the same steps give the same bytes.
import { createHash } from "node:crypto";
import { lstat, readdir, readFile, readlink, rename, rm, stat } from "node:fs/promises";
import { basename, dirname, join, relative } from "node:path";
import { encodeGraph, type Graph, isZayaError, type Store, tensor } from "@zaya/kernels";
import { loadCheckpoint, loadWeights, type ModelConfig, parameters, saveCheckpoint, type TokenizerFiles } from "@zaya/model";
import { expectDiskRoom, makeFolder } from "@zaya/model/internal";
import { z } from "zod";
import type { ClockState } from "./clock.js";
import { fail } from "./errors.js";
import { linkAtomically, openFile, runPaths, sha256OfFile, syncFolder, writeAtomically } from "./files.js";
import { stateNames } from "./optimizer.js";
import type { RunOptions } from "./options.js";

const formatVersion = 1;

/** A tensor of state.bin: the part `slice` (begin and end of the first dimension) of a tensor of this global shape. */
const SavedTensor = z.object({
  name: z.string(),
  shape: z.array(z.int()),
  slice: z.tuple([z.int(), z.int()]),
  offset: z.int(),
});

const Manifest = z.object({
  formatVersion: z.literal(formatVersion),
  /** Updates done. */
  step: z.int().min(0),
  /** Labels trained on so far. */
  tokens: z.int().min(0),
  seed: z.int(),
  /** Fingerprint of the corpus from which the next batch is drawn, by step. */
  data: z.string(),
  /** That of the corpus on which the run is evaluated, only in runs that have files for it. */
  evaluationData: z.string().optional(),
  /** Training time so far, only in runs that are limited by time. */
  clock: z.object({ elapsed: z.number(), warmed: z.number() }).optional(),
  files: z.record(z.string(), z.object({ bytes: z.int(), sha256: z.string() })),
  tensors: z.array(SavedTensor),
  /** Of all of the above as JSON without spaces. */
  sha256: z.string().optional(),
});

/** Where a run is, without its tensors. */
export type RunState = Pick<z.output<typeof Manifest>, "step" | "tokens" | "seed" | "data" | "evaluationData"> & {
  readonly clock?: ClockState;
};

export interface RunCheckpoint {
  readonly path: string;
  readonly state: RunState;
  readonly bytes: number;
}

interface Tensors {
  readonly store: Store;
  readonly config: ModelConfig;
  readonly optimizer: RunOptions["optimizer"];
}

/** Which checkpoints stay: the newest, and the one with the lowest held-out loss of those that have one. */
export interface Kept {
  readonly keep: number;
  /** Held-out loss by step. */
  readonly losses: ReadonlyMap<number, number>;
}

/**
 * Saves a checkpoint, points `latest` at it, and removes what need not be kept. A save that fails leaves nothing. On a disk that has become full
 * older ones go first, but for the newest.
 * @throws DISK_FULL before anything is written
 */
export async function saveRun(
  out: string,
  state: RunState,
  tensors: Tensors & { readonly graphs: Readonly<Record<string, Graph>> },
  tokenizerFiles: TokenizerFiles,
  kept: Kept,
): Promise<RunCheckpoint> {
  const paths = runPaths(out);
  const name = stepName(state.step);
  const path = join(paths.checkpoints, name);
  const temporary = join(paths.checkpoints, `partial-${name}`);
  await rm(temporary, { recursive: true, force: true });
  await makeRoom(out, tensors, state.step, kept);
  const bytes = await writeCheckpoint(temporary, state, tensors, tokenizerFiles).catch(async (cause: unknown) => {
    await rm(temporary, { recursive: true, force: true }); // on a full disk it would be in the way
    throw cause;
  });
  await rename(temporary, path);
  await syncFolder(paths.checkpoints);
  await linkCheckpoint(out, "latest", path);
  await keepCheckpoints(out, kept);
  return { path, state, bytes };
}

/** Bytes of a checkpoint, but for the tokenizer and what describes it. */
export function checkpointBytes({ config, optimizer }: Omit<Tensors, "store">): number {
  const elements = [...parameters(config), ...optimizerTensors(config, optimizer)].reduce((sum, { shape }) => sum + elementsOf(shape), 0);
  return elements * Float32Array.BYTES_PER_ELEMENT;
}

/**
 * Refuses a run whose checkpoints do not fit on its disk: those that are kept, and one that is written beside them.
 * @param more checkpoints that will be saved
 * @throws DISK_FULL
 */
export async function expectCheckpointRoom(out: string, tensors: Omit<Tensors, "store">, more: number, keep: number): Promise<void> {
  const { checkpoints } = runPaths(out);
  const present = (await stepFolders(checkpoints)).length;
  const count = Math.min(more, keep + 1 - present);
  if (count <= 0) return;
  const what = count === 1 ? "a checkpoint" : `holding ${present + count} checkpoints at a time`;
  await expectDiskRoom(out, count * checkpointBytes(tensors), { what, otherwise: "keep fewer, or choose a folder on another disk" });
}

async function makeRoom(out: string, tensors: Tensors, step: number, { losses }: Kept): Promise<void> {
  const { checkpoints } = runPaths(out);
  await makeFolder(checkpoints);
  for (;;) {
    const saved = await stepFolders(checkpoints);
    const otherwise = saved.length > 0 ? `resume from ${saved.at(-1)} on another disk` : "begin on another disk: nothing was saved yet";
    try {
      return await expectDiskRoom(checkpoints, checkpointBytes(tensors), { what: `the checkpoint of step ${step}`, otherwise });
    } catch (error) {
      if (!isZayaError(error) || saved.length < 2) throw error;
      const older = saved.slice(0, -1);
      await removeCheckpoint(out, older.find((name) => name !== bestOf(saved, losses)) ?? (older[0] as string));
    }
  }
}

/** Writes all files of a checkpoint, the manifest last; the bytes of the others. */
async function writeCheckpoint(
  folder: string,
  state: RunState,
  { store, config, optimizer, graphs }: Tensors & { readonly graphs: Readonly<Record<string, Graph>> },
  tokenizerFiles: TokenizerFiles,
): Promise<number> {
  await makeFolder(join(folder, "training"));
  const weights = parameters(config).map((spec) => spec.name);
  await saveCheckpoint(folder, { config, tensors: readEach(store, weights), tokenizerFiles });
  const tensors = await writeState(join(folder, "training", "state.bin"), store, optimizerTensors(config, optimizer));
  for (const [graph, description] of Object.entries(graphs)) {
    await writeAtomically(join(folder, "training", `${graph}.graph.pb`), encodeGraph(description));
  }
  await syncFolder(join(folder, "training"));

  const files: Record<string, { bytes: number; sha256: string }> = {};
  let bytes = 0;
  for (const file of await filesUnder(folder)) {
    const found = { bytes: (await stat(join(folder, file))).size, sha256: await sha256OfFile(join(folder, file)) };
    files[file] = found;
    bytes += found.bytes;
  }
  const manifest: z.input<typeof Manifest> = { formatVersion, ...state, files, tensors };
  await writeAtomically(join(folder, "manifest.json"), `${JSON.stringify({ ...manifest, sha256: hashOf(manifest) }, null, 1)}\n`);
  return bytes;
}

/**
 * The newest checkpoint of a run, or null. Finishes what a killed save left: its folder and the link.
 * @throws CHECKPOINT_DAMAGED where `latest` tells of a checkpoint and there is none
 */
export async function findLatest(out: string): Promise<{ readonly path: string; readonly state: RunState } | null> {
  const { checkpoints } = runPaths(out);
  for (const name of await namesIn(checkpoints)) {
    if (name.startsWith("partial-")) await rm(join(checkpoints, name), { recursive: true });
  }
  const newest = (await stepFolders(checkpoints)).at(-1);
  if (!newest) {
    await expectNoLatest(out);
    return null;
  }
  const path = join(checkpoints, newest);
  await linkCheckpoint(out, "latest", path);
  const { step, tokens, seed, data, evaluationData, clock } = await readManifest(path);
  return { path, state: { step, tokens, seed, data, ...(evaluationData ? { evaluationData } : {}), ...(clock ? { clock } : {}) } };
}

/**
 * Fills a store with a checkpoint's weights and optimizer tensors.
 * @throws CHECKPOINT_DAMAGED naming the file, when a file is not what was saved
 */
export async function loadRun(path: string, { store, config, optimizer }: Tensors): Promise<void> {
  const manifest = await readManifest(path);
  for (const [file, { bytes, sha256 }] of Object.entries(manifest.files)) {
    const size = (await stat(join(path, file)).catch(() => null))?.size;
    if (size === undefined) await damaged(path, file, "is missing");
    if (size !== bytes) await damaged(path, file, `has ${size} bytes where ${bytes} were saved`);
    if ((await sha256OfFile(join(path, file))) !== sha256) await damaged(path, file, "does not have the content that was saved");
  }
  await using checkpoint = await loadCheckpoint(path);
  await loadWeights(store, checkpoint, { dtype: "float32", encoding: "plain" });
  const saved = new Map(manifest.tensors.map((entry) => [entry.name, entry]));
  await using file = await openFile(join(path, "training", "state.bin"), "r");
  for (const { name, shape } of optimizerTensors(config, optimizer)) {
    const entry = saved.get(name);
    if (entry?.shape.join() !== shape.join()) await damaged(path, "training/state.bin", `does not hold ${name} of shape [${shape}]`);
    const data = new Float32Array(elementsOf(shape));
    await readAll(file, new Uint8Array(data.buffer), entry?.offset ?? 0);
    await store.write(name, tensor("float32", shape), data);
  }
}

/** Refuses to begin again where there was a checkpoint: its folder may be on a disk that is away. */
async function expectNoLatest(out: string): Promise<void> {
  const { checkpoints, latest } = runPaths(out);
  if (!(await lstat(latest).catch(nullIfAbsent))) return;
  const target = await readlink(latest).catch(() => "a checkpoint");
  fail(
    "CHECKPOINT_DAMAGED",
    `${latest} points to ${target}, and there is no checkpoint in ${checkpoints}; mount or restore it, or remove ${latest} to begin again at step 1`,
  );
}

/** Points `latest` or `best` at a checkpoint, also where a copy of the run (`cp -rL`) has a folder there: one of the checkpoints once more. */
async function linkCheckpoint(out: string, link: "latest" | "best", path: string): Promise<void> {
  const { checkpoints, [link]: place } = runPaths(out);
  if ((await lstat(place).catch(() => null))?.isDirectory()) {
    const manifestOf = (folder: string) => readFile(join(folder, "manifest.json"), "utf8").catch(() => null);
    const manifest = await manifestOf(place);
    const saved = await Promise.all((await stepFolders(checkpoints)).map((name) => manifestOf(join(checkpoints, name))));
    if (manifest === null || !saved.includes(manifest))
      fail("CHECKPOINT_DAMAGED", `${place} is a folder where a link is to be, and none of ${checkpoints} is the same; move it away`);
    const aside = `${place}.partial`; // linkAtomically removes it
    await rm(aside, { recursive: true, force: true });
    await rename(place, aside);
  }
  await linkAtomically(relative(out, path), place);
}

function stepName(step: number): string {
  return `step-${String(step).padStart(8, "0")}`;
}

function stepOf(name: string): number {
  return Number(name.slice("step-".length));
}

async function stepFolders(checkpoints: string): Promise<string[]> {
  return (await namesIn(checkpoints)).filter((name) => /^step-\d+$/.test(name)).sort();
}

/** What is in a folder; nothing where there is none. A folder that cannot be read is not an empty one. */
async function namesIn(folder: string): Promise<string[]> {
  return (await readdir(folder).catch(nullIfAbsent)) ?? [];
}

function nullIfAbsent(cause: NodeJS.ErrnoException): null {
  if (cause.code === "ENOENT") return null;
  throw cause;
}

/** Removes the checkpoints that need not be kept, and points `best` at the one with the lowest held-out loss. */
export async function keepCheckpoints(out: string, { keep, losses }: Kept): Promise<void> {
  const { checkpoints, best: link } = runPaths(out);
  const saved = await stepFolders(checkpoints);
  const best = bestOf(saved, losses);
  if (best) await linkCheckpoint(out, "best", join(checkpoints, best));
  else if ((await lstat(link).catch(() => null))?.isSymbolicLink()) await rm(link); // to one that had to go for room
  for (const name of saved.slice(0, -keep)) if (name !== best) await removeCheckpoint(out, name);
}

/** The checkpoint that `best` points to, or null where none of those that are kept was evaluated. */
export async function bestCheckpoint(
  out: string,
  losses: Kept["losses"],
): Promise<{ readonly path: string; readonly step: number; readonly loss: number } | null> {
  const { checkpoints } = runPaths(out);
  const name = bestOf(await stepFolders(checkpoints), losses);
  return name === undefined ? null : { path: join(checkpoints, name), step: stepOf(name), loss: losses.get(stepOf(name)) as number };
}

/** The first of equals. */
function bestOf(saved: readonly string[], losses: Kept["losses"]): string | undefined {
  const lossOf = (name: string) => losses.get(stepOf(name)) ?? Number.POSITIVE_INFINITY;
  return saved.filter((name) => losses.has(stepOf(name))).sort((a, b) => lossOf(a) - lossOf(b))[0];
}

/** In two moves, so that a folder called step-… is never half a checkpoint. */
async function removeCheckpoint(out: string, name: string): Promise<void> {
  const { checkpoints } = runPaths(out);
  const aside = join(checkpoints, `partial-remove-${name}`);
  await rename(join(checkpoints, name), aside);
  await rm(aside, { recursive: true });
}

async function readManifest(path: string): Promise<z.output<typeof Manifest>> {
  const text = await readFile(join(path, "manifest.json"), "utf8").catch((cause) => damaged(path, "manifest.json", "is missing", cause));
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    await damaged(path, "manifest.json", "is not JSON", cause);
  }
  const { sha256, ...content } = Object(json) as { sha256?: unknown; formatVersion?: unknown; step?: unknown };
  const isOther = sha256 !== undefined && sha256 !== hashOf(content);
  if (isOther || (typeof content.step === "number" && stepName(content.step) !== basename(path)))
    await damaged(path, "manifest.json", "does not have the content that was saved");
  const version = content.formatVersion;
  if (typeof version !== "number") await damaged(path, "manifest.json", "is not a manifest of a run");
  if (version !== formatVersion)
    fail("FORMAT_UNSUPPORTED", `${path} has format version ${String(version)}; this program reads ${formatVersion}`);
  const parsed = Manifest.safeParse(json);
  return parsed.data ?? (await damaged(path, "manifest.json", `is not a manifest of a run: ${parsed.error.issues[0]?.path.join(".")}`));
}

function hashOf(manifest: object): string {
  return createHash("sha256").update(JSON.stringify(manifest)).digest("hex");
}

/** Tells what is wrong with a file of a checkpoint, and which checkpoint is the one before it. */
async function damaged(path: string, file: string, how: string, cause?: unknown): Promise<never> {
  const before = (await stepFolders(dirname(path))).filter((name) => name < basename(path)).at(-1);
  const advice = before
    ? `remove ${path} to go on from ${before}`
    : "there is no checkpoint before it; without this one the run begins again at step 1";
  return fail("CHECKPOINT_DAMAGED", `${join(path, file)} ${how}; ${advice}`, cause);
}

function optimizerTensors(config: ModelConfig, optimizer: RunOptions["optimizer"]): { name: string; shape: readonly number[] }[] {
  return parameters(config).flatMap((spec) => stateNames(spec, optimizer).map((name) => ({ name, shape: spec.shape })));
}

function* readEach(store: Store, names: readonly string[]): Generator<{ name: string; data: Float32Array }> {
  for (const name of names) yield { name, data: store.read(name) as Float32Array };
}

async function writeState(
  path: string,
  store: Store,
  tensors: readonly { name: string; shape: readonly number[] }[],
): Promise<z.input<typeof SavedTensor>[]> {
  await using file = await openFile(path, "w");
  const entries: z.input<typeof SavedTensor>[] = [];
  let offset = 0;
  for (const { name, data } of readEach(
    store,
    tensors.map((each) => each.name),
  )) {
    const shape = [...(tensors[entries.length]?.shape ?? [])];
    entries.push({ name, shape, slice: [0, shape[0] ?? 1], offset });
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    for (let done = 0; done < bytes.length; ) done += (await file.write(bytes, done, bytes.length - done, offset + done)).bytesWritten;
    offset += bytes.length;
  }
  await file.sync();
  return entries;
}

async function readAll(file: Awaited<ReturnType<typeof openFile>>, into: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < into.length; ) {
    const { bytesRead } = await file.read(into, done, into.length - done, position + done);
    if (bytesRead === 0) fail("CHECKPOINT_DAMAGED", "training/state.bin ends too early");
    done += bytesRead;
  }
}

async function filesUnder(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => relative(folder, join(entry.parentPath, entry.name)))
    .sort();
}

function elementsOf(shape: readonly number[]): number {
  return shape.reduce((product, n) => product * n, 1);
}
