import { rm } from "node:fs/promises";
import { resolve } from "node:path";
import { type Device, isZayaError, openDevice, type Store } from "@zaya/kernels";
import { describe, loadCheckpoint, loadWeights, type ModelConfig } from "@zaya/model";
import { makeFolder, takeLock } from "@zaya/model/internal";
import { z } from "zod";
import { checkOptions } from "./check_options.js";
import {
  bestCheckpoint,
  expectCheckpointRoom,
  findLatest,
  keepCheckpoints,
  loadRun,
  type RunCheckpoint,
  type RunState,
  saveRun,
} from "./checkpoint.js";
import { createClock } from "./clock.js";
import { fail, type TrainErrorCode } from "./errors.js";
import { compileEvaluator, type Evaluator, type LossSums, lossFigures } from "./evaluate.js";
import type { EvaluationEnd, RunStart, StepEnd, TrainEvent } from "./events.js";
import { readJson, runPaths, writeAtomically } from "./files.js";
import { writeFreshWeights } from "./fresh_weights.js";
import { expertLoad } from "./load.js";
import { openMetrics } from "./metrics.js";
import { allocateTrainingState } from "./optimizer.js";
import {
  completeOptions,
  type GivenOptions,
  LimitOptions,
  type ParsedOptions,
  parseOptions,
  RunOptions,
  runOptionsOf,
  type TrainOptions,
} from "./options.js";
import { type Prepared, prepare } from "./prepare.js";
import { learningRateAt } from "./schedule.js";
import { compileStep, type StepSums, type TrainingStep } from "./step.js";
import { type Batch, sampleWindows, type Windows } from "./windows.js";

const formatVersion = 1;

/**
 * Trains a model and saves it in the folder `out`: checkpoints (and the links `latest`, to the newest, and `best`, to the one with the lowest held-out loss), metrics.jsonl, timings.jsonl,
 * run.json. Nothing happens before the first event is asked for. A run that stops in any way goes on bit for bit with `resume`, except
 * one that is limited by seconds.
 *
 * @throws INVALID_OPTIONS, INVALID_DATA, NOT_A_RUN, RUN_EXISTS, RUN_LOCKED, RUN_MISMATCH, CHECKPOINT_DAMAGED, LOSS_NOT_FINITE; DISK_FULL
 * before the first step, SAVE_FAILED where the disk has become full; the signal's reason after a save when it is aborted
 * @example
 * for await (const event of train({ model: "zaya-tiny", data: ["corpus.txt"], out: "runs/first", steps: 100 })) {
 *   if (event.type === "step-end") console.log(event.step, event.loss);
 * }
 */
export async function* train(options: TrainOptions): AsyncGenerator<TrainEvent> {
  yield* start(parseOptions(options));
}

/** `isSaved`: the options are those of run.json where they are not given. `lengthIsNew`: the steps or seconds are not those of before. */
async function* start(given: GivenOptions, { isSaved = false, lengthIsNew = false } = {}): AsyncGenerator<TrainEvent> {
  const { out } = given;
  await makeFolder(out);
  await using _lock = await takeLock(runPaths(out).lock, {
    code: "RUN_LOCKED" satisfies TrainErrorCode,
    doing: "working in this folder",
  });
  const latest = await findLatest(out);
  const saved = await readRun(out);
  if (latest && !saved) fail("NOT_A_RUN", `${out} holds checkpoints and no run.json; choose another folder`);
  // A run that ended before its first checkpoint has nothing to go on with: another may begin in its place.
  const options = completeOptions(given, latest || isSaved ? (saved?.run ?? null) : null);
  if (latest && saved) checkSame(options, saved);
  const isPlanned = options.steps === saved?.limits.steps && options.seconds === saved?.limits.seconds;
  if (latest && (lengthIsNew || !isPlanned)) expectLonger(options, latest.state);
  await using prepared = await prepare(options, latest);
  const { config } = prepared;
  await expectCheckpointRoom(out, { config, optimizer: options.optimizer }, savesToCome(options, latest?.state.step ?? 0), options.keep);
  try {
    yield* runSteps(options, prepared, { latest, replaced: latest ? null : (saved?.run ?? null) });
  } catch (cause) {
    if (isZayaError(cause) && cause.code === "DISK_FULL") fail("SAVE_FAILED", cause.message, cause);
    if ((cause as NodeJS.ErrnoException | null)?.code === "ENOSPC")
      fail("SAVE_FAILED", `no space is left on the disk of ${out}; free some and resume from its newest checkpoint`, cause);
    throw cause;
  }
}

/** Checkpoints of the steps that are left, at most; what a limit in seconds leaves is not known. */
function savesToCome({ steps, saveEvery }: ParsedOptions, done: number): number {
  return steps === undefined ? Number.POSITIVE_INFINITY : Math.ceil(steps / saveEvery) - Math.floor(done / saveEvery);
}

export type ResumeOptions = Pick<
  Partial<TrainOptions>,
  | "data"
  | "evaluationData"
  | "threads"
  | "cache"
  | "signal"
  | "steps"
  | "seconds"
  | "evaluateEvery"
  | "evaluateTokens"
  | "saveEvery"
  | "keep"
>;

/**
 * Goes on with the run in a folder, from its newest checkpoint. Limits may be changed; a longer run also has a longer schedule, and one that
 * would end before what is done is refused. `data` and `evaluationData` name the same files at another place; they have to give the same tokens.
 *
 * @throws NOT_A_RUN, and what {@link train} throws
 */
export async function* resume(out: string, options: ResumeOptions = {}): AsyncGenerator<TrainEvent> {
  const saved = await readRun(out);
  if (!saved) fail("NOT_A_RUN", `${out}: there is no run.json; start a run with train`);
  const { steps, seconds, ...limits } = saved.limits;
  const lengthIsNew = options.steps !== undefined || options.seconds !== undefined;
  const length = lengthIsNew ? {} : { steps, seconds };
  const given = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
  yield* start(parseOptions({ ...saved.run, ...limits, ...length, ...given, out, resume: true }), { isSaved: true, lengthIsNew });
}

/** What run.json says, or null. */
export async function readRun(out: string): Promise<{ run: RunOptions; limits: LimitOptions } | null> {
  const json = (await readJson(runPaths(out).run)) as { formatVersion?: unknown } | null;
  if (!json) return null;
  if (json.formatVersion !== formatVersion) {
    fail(
      "FORMAT_UNSUPPORTED",
      `${runPaths(out).run} has format version ${String(json.formatVersion)}; this program reads ${formatVersion}`,
    );
  }
  return checkOptions(z.object({ run: RunOptions, limits: LimitOptions }), json, (problems) =>
    fail("NOT_A_RUN", `${runPaths(out).run} is not that of a run: ${problems}`),
  );
}

/** A run goes on only with the options that decide what it computes. Of its data that is the tokens, wherever the files are. */
function checkSame(options: ParsedOptions, { run: saved, limits }: { run: RunOptions; limits: LimitOptions }): void {
  if (!options.resume) fail("RUN_EXISTS", `${options.out} holds a run already; go on with it (resume) or choose another folder`);
  const run = runOptionsOf(options);
  const keys = Object.keys(RunOptions.shape) as (keyof RunOptions)[];
  const isSame = (key: keyof RunOptions) =>
    key === "data" || key === "evaluationData"
      ? (run[key] === undefined) === (saved[key] === undefined)
      : JSON.stringify(run[key]) === JSON.stringify(saved[key]);
  const changed = keys.filter((key) => !isSame(key));
  if (changed.length > 0) {
    fail(
      "RUN_MISMATCH",
      `${options.out} was started with other values of ${changed.join(", ")}; resume it with its own or choose another folder`,
    );
  }
  // The schedule would begin again: what a checkpoint tells of the one is nothing of the other.
  if ((options.seconds === undefined) !== (limits.seconds === undefined)) {
    const [was, is] = limits.seconds === undefined ? ["steps", "seconds"] : ["seconds", "steps"];
    fail("INVALID_OPTIONS", `${is}: ${options.out} is limited by ${was}; go on with another number of ${was}`);
  }
}

/** A run that is to end where it has been already would do nothing, and have another plan than what it did. */
function expectLonger({ out, steps, seconds }: ParsedOptions, { step, clock }: RunState): void {
  if (steps !== undefined && steps <= step) fail("INVALID_OPTIONS", `steps: ${out} has done ${step} steps already; go on with more`);
  const elapsed = clock?.elapsed ?? 0;
  if (seconds !== undefined && seconds <= elapsed)
    fail("INVALID_OPTIONS", `seconds: ${out} has trained for ${elapsed.toFixed(1)} s already; go on with more`);
}

async function writeRun(options: ParsedOptions): Promise<void> {
  const run = runOptionsOf(options);
  const limits = LimitOptions.parse(
    Object.fromEntries(Object.keys(LimitOptions.shape).map((key) => [key, options[key as keyof ParsedOptions]])),
  );
  await writeAtomically(runPaths(options.out).run, `${JSON.stringify({ formatVersion, run, limits }, null, 2)}\n`);
}

async function* runSteps(
  options: ParsedOptions,
  prepared: Prepared,
  { latest, replaced }: { latest: Pick<RunCheckpoint, "path" | "state"> | null; replaced: RunOptions | null },
): AsyncGenerator<TrainEvent> {
  const { out, signal, seed, threads, optimizer } = options;
  const paths = runPaths(out);
  const { config } = prepared;
  if (latest && latest.state.data !== prepared.corpus.fingerprint) {
    fail("RUN_MISMATCH", `the data is not what ${out} was trained on: its tokens differ`);
  }
  const evaluationData = prepared.evaluation?.fingerprint;
  if (latest && latest.state.evaluationData !== evaluationData) {
    fail("RUN_MISMATCH", `the evaluation data is not what ${out} was evaluated on: its tokens differ`);
  }
  const data = prepared.corpus.fingerprint;
  const state: RunState = latest?.state ?? { step: 0, tokens: 0, seed, data, ...(evaluationData ? { evaluationData } : {}) };

  await using device = await openDevice("cpu", threads === undefined ? {} : { threads });
  await using store = device.createStore();
  allocateTrainingState(store, config, options);
  if (latest) {
    await loadRun(latest.path, { store, config, optimizer });
  } else await startWeights(store, config, options);
  // Only now, so that what is refused leaves nothing that looks like a run, and a run that was there as it was.
  if (replaced) await removeRest(options, replaced);
  await writeRun(options);
  if (prepared.heldOut) await writeAtomically(paths.heldOut, await prepared.heldOutRecords());
  await using step = compileStep(device, store, config, options);
  const evaluation = {
    context: options.context,
    windows: options.windows,
    dtype: options.dtype,
    weights: { dtype: "float32", encoding: "plain" },
  } as const;
  await using evaluator = compileEvaluator(device, store, config, evaluation);
  await using metrics = await openMetrics(paths.metrics, state.step);
  await using timings = await openMetrics(paths.timings, state.step, { dropUnreadable: true });

  const arenaBytes = Math.max(step.arenaBytes, evaluator.arenaBytes); // they share it
  const start = runStart(options, prepared, latest?.state.step ?? null, { storeBytes: store.bytes(), arenaBytes });
  const { flopsPerStep } = start;
  const peak = peakMeter(device, options.dtype);
  yield start;

  const clock = createClock(options, state.clock);
  const schedule = { peak: options.learningRate, warmup: options.warmup, final: options.finalLearningRate };
  let { step: number, tokens } = state;
  let savedAt = latest ? number : -1;
  let checkpoint = latest?.path ?? "";
  let loss: number | null = null;
  const losses = new Map(metrics.kept.flatMap(({ step, evaluationLoss }) => (evaluationLoss == null ? [] : [[step, evaluationLoss]])));
  let evaluatedAt = [...losses.keys()].at(-1) ?? -1;
  const kept = { keep: options.keep, losses };
  if (latest) await keepCheckpoints(out, kept); // only now that the newest is known to be whole

  async function* save(): AsyncGenerator<TrainEvent> {
    if (savedAt === number) return;
    const ahead = await evaluator.lossSum(await microbatch(prepared, options, number * options.accumulation));
    if (!Number.isFinite(ahead)) diverged(number, `the weights give a loss of ${ahead}`, savedAt);
    const started = performance.now();
    await metrics.sync();
    const at: RunState = { ...state, step: number, tokens, ...clock.state() };
    const saved = await saveRun(out, at, { store, config, optimizer, graphs: step.graphs }, prepared.tokenizerFiles, kept);
    savedAt = number;
    checkpoint = saved.path;
    yield { type: "checkpoint-end", step: number, path: saved.path, bytes: saved.bytes, seconds: (performance.now() - started) / 1000 };
  }
  /** Whether the step has its evaluation; not when it was aborted. */
  async function* evaluateNow(): AsyncGenerator<TrainEvent, boolean> {
    if (!prepared.heldOut || evaluatedAt === number) return true;
    const result = await evaluateRun(evaluator, prepared.heldOut, number, signal);
    if (!result) return false;
    if (!Number.isFinite(result.loss)) diverged(number, `held-out loss ${result.loss}`, savedAt, savedAt === number);
    evaluatedAt = number;
    losses.set(number, result.loss);
    await metrics.append({ step: number, evaluationLoss: result.loss, bitsPerByte: result.bitsPerByte });
    yield result;
    return true;
  }

  for (;;) {
    const over = clock.isOver(number);
    const isDue = (every: number) => number > 0 && (over || number % every === 0);
    // The evaluation first: a checkpoint of a step has every line of that step before it. One that was aborted comes first when the run goes on.
    const evaluated = !isDue(options.evaluateEvery) || (yield* evaluateNow());
    if (signal?.aborted || isDue(options.saveEvery)) yield* save();
    if (over && evaluated) break;
    signal?.throwIfAborted();
    number++;
    const learningRate = learningRateAt(schedule, number, clock.progress(number), clock.warmed());
    const started = performance.now();
    const sums = await runStep(step, prepared, options, number, learningRate);
    const seconds = (performance.now() - started) / 1000;
    clock.add(seconds, number);
    const utilisation = flopsPerStep / seconds / (await peak());
    tokens += sums.labels;
    const ended = stepEnd(number, sums, learningRate, { seconds, utilisation, secondsLeft: clock.secondsLeft(number) });
    if (!Number.isFinite(ended.loss) || !Number.isFinite(ended.gradNorm)) {
      diverged(number, `loss ${ended.loss}, gradient norm ${ended.gradNorm}`, savedAt, savedAt === number - 1);
    }
    loss = ended.loss;
    const { type: _type, tokensPerSecond, utilisation: _utilisation, secondsLeft: _secondsLeft, ...computed } = ended;
    await metrics.append(computed);
    await timings.append({ step: number, seconds, tokensPerSecond, utilisation });
    yield ended;
  }
  yield { type: "train-end", step: number, checkpoint, loss, best: await bestCheckpoint(out, losses) };
}

/**
 * Removes what a run that ended before its first checkpoint left and the one in its place may not write again. A tokenizer that is named stays,
 * and so does one that the run before did not make.
 */
async function removeRest({ out, from, tokenizer }: ParsedOptions, replaced: RunOptions): Promise<void> {
  const paths = runPaths(out);
  await rm(paths.heldOut, { force: true });
  const trains = (run: Pick<RunOptions, "from" | "tokenizer">) => run.from === undefined && run.tokenizer === undefined;
  const isNeeded = trains({ from, tokenizer }) || tokenizer === resolve(paths.tokenizer);
  if (trains(replaced) && !isNeeded) await rm(paths.tokenizer, { recursive: true, force: true });
}

/** The machine's peak in FLOP/s: the highest seen so far, measured again every few seconds. While something else runs it comes out lower than it is. */
function peakMeter(device: Device, dtype: "float32" | "bfloat16"): () => Promise<number> {
  let measuredAt = Number.NEGATIVE_INFINITY;
  let flops = 0;
  return async () => {
    if (performance.now() - measuredAt > 5000) {
      flops = Math.max(flops, 1e9 * (await device.measure(dtype, 20)));
      measuredAt = performance.now();
    }
    return flops;
  };
}

/** Weights of a new run: those of the checkpoint it starts from, or random ones. */
async function startWeights(store: Store, config: ModelConfig, { from, seed, signal }: ParsedOptions): Promise<void> {
  if (from !== undefined) {
    await using checkpoint = await loadCheckpoint(from);
    await loadWeights(store, checkpoint, { dtype: "float32", encoding: "plain", ...(signal ? { signal } : {}) });
    return;
  }
  await writeFreshWeights(store, config, seed);
}

async function runStep(
  step: TrainingStep,
  prepared: Prepared,
  options: ParsedOptions,
  number: number,
  learningRate: number,
): Promise<StepSums> {
  const first = (number - 1) * options.accumulation;
  const batches = Array.from({ length: options.accumulation }, (_, part) => microbatch(prepared, options, first + part));
  return await step.run(await Promise.all(batches), number, learningRate);
}

/** The microbatch of this number, counted over all steps. */
function microbatch({ training }: Prepared, { seed, windows }: ParsedOptions, number: number): Promise<Batch> {
  return training.batch(sampleWindows(seed, training.count, number, windows));
}

/** Null when it was aborted. */
async function evaluateRun(
  evaluator: Evaluator,
  heldOut: Windows,
  step: number,
  signal: AbortSignal | undefined,
): Promise<EvaluationEnd | null> {
  let sums: LossSums = { lossSum: 0, labels: 0, counts: [] };
  try {
    for await (sums of evaluator.run(heldOut, signal));
  } catch (error) {
    if (signal?.aborted && error === signal.reason) return null;
    throw error;
  }
  return { type: "evaluation-end", step, ...lossFigures(sums, heldOut.numBytes), tokens: sums.labels, bytes: heldOut.numBytes };
}

function stepEnd(
  step: number,
  sums: StepSums,
  learningRate: number,
  { seconds, utilisation, secondsLeft }: { seconds: number; utilisation: number; secondsLeft: number | null },
): StepEnd {
  return {
    type: "step-end",
    step,
    loss: sums.lossSum / sums.labels,
    learningRate,
    gradNorm: sums.gradNorm,
    ...expertLoad(sums.counts),
    tokensPerSecond: sums.labels / seconds,
    utilisation,
    secondsLeft,
  };
}

function runStart(
  options: ParsedOptions,
  { config, corpus, training, heldOut, notHeldOut }: Prepared,
  resumedFrom: number | null,
  memory: RunStart["memory"],
): RunStart {
  const { context, windows, accumulation } = options;
  const { parameters: counts, flops } = describe(config, { context });
  const tokensPerStep = context * windows * accumulation;
  return {
    type: "run-start",
    out: options.out,
    resumedFrom,
    steps: options.steps ?? null,
    parameters: { total: counts.total, active: counts.active },
    tokensPerStep,
    data: {
      documents: corpus.numDocuments,
      trainingTokens: training.numPairs,
      heldOutTokens: heldOut?.numPairs ?? 0,
      notHeldOut,
      cached: corpus.cached,
    },
    vocabSize: config.vocabSize,
    memory,
    flopsPerStep: flops.training.total * tokensPerStep,
  };
}

/** `isOfSaved`: the figures are those of the weights that were saved last. */
function diverged(step: number, figures: string, savedAt: number, isOfSaved = false): never {
  const newest = `the newest checkpoint${isOfSaved ? ", whose weights gave this," : ""} is that of step ${savedAt}`;
  const place = isOfSaved ? ", from an earlier checkpoint or anew" : "";
  const saved = savedAt < 0 ? "nothing was saved yet" : newest;
  fail("LOSS_NOT_FINITE", `step ${step}: ${figures}; ${saved}. Start a run with a lower learning rate${place}`);
}
