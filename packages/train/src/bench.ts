// Speed of a training step in llama-bench's terms: "train2048" is one update on 2048 random tokens, its random weights with balancing
// biases under which the experts are evenly used. Every step lies between two measurements of the machine's peak, since the speed of a
// machine may change from second to second (shareOfLimit). The operations counted are those of `describe`.
import {
  createLimitMeter,
  describeMachine,
  type Limits,
  type Machine,
  type MeasuredSlice,
  mean,
  openDevice,
  shareOfLimit,
  standardDeviation,
} from "@zaya/kernels";
import { describe, type ModelConfig, type PresetName } from "@zaya/model";
import { z } from "zod";
import { balanceByForward } from "./calibrate.js";
import { checkOptions } from "./check_options.js";
import { randomBatch } from "./create.js";
import { fail } from "./errors.js";
import { writeFreshWeights } from "./fresh_weights.js";
import { expertLoad } from "./load.js";
import { expectRoom, planTraining } from "./memory.js";
import { allocateTrainingState } from "./optimizer.js";
import { RunOptions } from "./options.js";
import { resolveConfig } from "./prepare.js";
import { compileStep } from "./step.js";

const Options = z.strictObject({
  ...RunOptions.pick({ model: true, context: true, windows: true, accumulation: true, optimizer: true, dtype: true }).shape,
  vocabSize: z.int().min(1).optional(),
  repetitions: z.int().min(1).default(5),
  threads: z.int().min(1).optional(),
  /** Aborting rejects with the signal's reason after the step in progress, and after a `result` of the repetitions that were finished. */
  signal: z.instanceof(AbortSignal).optional(),
});
export type BenchOptions = Omit<z.input<typeof Options>, "model"> & { readonly model: PresetName | ModelConfig | (string & {}) };

export interface BenchResult {
  /** "train2048" */
  readonly name: string;
  readonly dtype: "float32" | "bfloat16";
  /** Windows of a step. */
  readonly batch: number;
  /** Tokens of a window. */
  readonly depth: number;
  /** Mean of the repetitions, and their standard deviation. */
  readonly tokensPerSecond: number;
  readonly stddev: number;
  /** Tokens a second at the peak of the computing type, measured in the same seconds. */
  readonly limit: number;
  readonly fractionOfLimit: number;
}

/** Share of the time of a step that each kind of operation takes, the largest first. */
export type OperationShares = readonly { readonly name: string; readonly share: number }[];

export type BenchEvent =
  | {
      readonly type: "bench-start";
      readonly machine: Machine;
      readonly config: ModelConfig;
      readonly parameters: { readonly total: number; readonly active: number };
      readonly flopsPerStep: number;
      readonly memoryBytes: number;
    }
  | { readonly type: "repetition-end"; readonly repetition: number; readonly of: number; readonly tokensPerSecond: number }
  | {
      readonly type: "result";
      readonly result: BenchResult;
      /** Empty where it was aborted before they were measured. */
      readonly operations: OperationShares;
      /** The busiest over the mean expert, in the worst layer and step; null in a dense model. */
      readonly maxMeanExpertLoad: number | null;
    }
  | { readonly type: "bench-end"; readonly machine: Machine; readonly limits: Limits; readonly results: readonly BenchResult[] };

/** Steps that touch weights and buffers for the first time. */
const warmUp = 2;

/**
 * Measures how fast a model trains on this machine, as a share of its peak. Writes nothing.
 *
 * @throws INVALID_OPTIONS, and the signal's reason
 * @example for await (const event of bench({ model: "zaya-512" })) if (event.type === "result") console.log(event.result);
 */
export async function* bench(options: BenchOptions): AsyncGenerator<BenchEvent, void, undefined> {
  const { model, vocabSize, repetitions, threads, signal, ...step } = { ...checkOptions(Options, options), balanceRate: 1e-2 };
  const { context, windows, accumulation, dtype } = step;
  const resolved = await resolveConfig({ model, from: undefined, context }, null);
  const config: ModelConfig = vocabSize === undefined ? resolved : { ...resolved, vocabSize };
  expectRoom("a step", await planTraining(config, step));

  await using device = await openDevice("cpu", threads === undefined ? {} : { threads });
  await using store = device.createStore();
  allocateTrainingState(store, config, step);
  await writeFreshWeights(store, config, 1);
  const batches = (number: number) =>
    Array.from({ length: accumulation }, (_, part) => randomBatch(config.vocabSize, context, windows, number, part));
  if (config.kind === "zaya") {
    const calibration = Array.from({ length: 4 }, (_, i) => batches(1 + i)[0] ?? fail("INVALID_OPTIONS", "a step needs a microbatch"));
    await balanceByForward(device, store, config, {
      batches: calibration,
      rounds: 24,
      weights: { dtype: "float32", encoding: "plain" },
      signal,
    });
  }
  await using training = compileStep(device, store, config, step);

  const tokens = context * windows * accumulation;
  const { parameters: counts, flops } = describe(config, { context });
  const flopsPerStep = flops.training.total * tokens;
  const machine = describeMachine(device);
  const meter = createLimitMeter(device);
  const memoryBytes = store.bytes() + training.arenaBytes;
  yield { type: "bench-start", machine, config, parameters: { total: counts.total, active: counts.active }, flopsPerStep, memoryBytes };

  // A rate at which the weights move as in training but the experts stay as they were balanced.
  const learningRate = 1e-5;
  const speeds: number[] = [];
  const slices: MeasuredSlice[] = [];
  let load: number | null = null;
  let number = 0;
  for (; number < warmUp; number++) {
    signal?.throwIfAborted();
    await training.run(batches(100 + number), number + 1, learningRate);
  }
  for (let repetition = 1; repetition <= repetitions; repetition++) {
    if (signal?.aborted && repetition > 1) break; // what is finished stands
    signal?.throwIfAborted();
    const batch = batches(100 + number++);
    const before = await meter.measure(dtype);
    const started = performance.now();
    const { counts } = await training.run(batch, number, learningRate);
    const seconds = (performance.now() - started) / 1000;
    slices.push({ seconds, work: flopsPerStep / 1e9, before, after: await meter.measure(dtype) });
    const { maxMeanExpertLoad } = expertLoad(counts);
    if (maxMeanExpertLoad !== null) load = Math.max(load ?? 0, maxMeanExpertLoad);
    speeds.push(tokens / seconds);
    yield { type: "repetition-end", repetition, of: repetitions, tokensPerSecond: tokens / seconds };
  }
  const times = signal?.aborted ? [] : (await training.profile(batches(100 + number), number + 1, learningRate)).times;

  const tokensPerSecond = mean(speeds);
  const fractionOfLimit = shareOfLimit(slices);
  const result: BenchResult = {
    name: `train${tokens}`,
    dtype,
    batch: windows * accumulation,
    depth: context,
    tokensPerSecond,
    stddev: standardDeviation(speeds),
    limit: tokensPerSecond / fractionOfLimit,
    fractionOfLimit,
  };
  yield { type: "result", result, operations: sharesOf(times), maxMeanExpertLoad: load };
  signal?.throwIfAborted();
  for (const limit of ["read", "float32", "bfloat16", "int8"] as const) await meter.measure(limit);
  yield { type: "bench-end", machine, limits: meter.medians(), results: [result] };
}

/** Nanoseconds of operations as shares of their sum, one entry a name. */
function sharesOf(times: readonly (readonly [string, number])[]): OperationShares {
  const sums = new Map<string, number>();
  for (const [name, nanoseconds] of times) sums.set(name, (sums.get(name) ?? 0) + nanoseconds);
  const total = [...sums.values()].reduce((sum, n) => sum + n, 0);
  return [...sums].map(([name, sum]) => ({ name, share: sum / total })).sort((a, b) => b.share - a.share);
}
