import { type Device, isZayaError, memoryLimit, openDevice } from "@zaya/kernels";
import { type Description, describe, type ModelConfig, type ParameterKind, type PresetName, parameters } from "@zaya/model";
import { z } from "zod";
import { checkOptions } from "./check_options.js";
import { checkpointBytes } from "./checkpoint.js";
import { randomBatch } from "./create.js";
import { writeFreshWeights } from "./fresh_weights.js";
import { type PlannedMemory, planTraining } from "./memory.js";
import { allocateTrainingState } from "./optimizer.js";
import { defaultVocabSize, expectOneModel, expectTrained, RunOptions } from "./options.js";
import { resolveConfig } from "./prepare.js";
import { compileStep, type StepOptions } from "./step.js";
import { tokenizerOf } from "./tokenizer_files.js";

/** Without a measured step this share of the measured peak is assumed. */
const assumedUtilisation = 0.5;

const Options = z.strictObject({
  ...RunOptions.pick({
    model: true,
    from: true,
    tokenizer: true,
    vocabSize: true,
    context: true,
    windows: true,
    accumulation: true,
    optimizer: true,
    dtype: true,
    balanceRate: true,
  }).shape,
  steps: z.int().min(1).optional(),
  threads: z.int().min(1).optional(),
  /** Run a few steps on random tokens where memory allows. Otherwise half of the measured peak is assumed. */
  measure: z.boolean().default(true),
  /** Aborting rejects with the signal's reason after the measured step in progress. */
  signal: z.instanceof(AbortSignal).optional(),
});
export type EstimateOptions = Omit<z.input<typeof Options>, "model"> & {
  readonly model?: PresetName | ModelConfig | (string & {}) | undefined;
};

/** What a run would take. */
export interface TrainEstimate {
  readonly config: ModelConfig;
  readonly description: Description;
  readonly parametersByKind: Readonly<Partial<Record<ParameterKind, number>>>;
  readonly tokensPerStep: number;
  readonly memory: PlannedMemory & { readonly limitBytes: number };
  /** Of one checkpoint on the disk, but for the tokenizer. */
  readonly checkpointBytes: number;
  readonly flopsPerStep: number;
  /** FLOP/s of this machine now, both in the computing type; null where no device can be opened. */
  readonly peakFlops: number | null;
  /** Seconds a step, and whether steps were run to find it. */
  readonly secondsPerStep: number | null;
  readonly measured: boolean;
  readonly tokensPerSecond: number | null;
  readonly utilisation: number | null;
  readonly totalSeconds: number | null;
}

/**
 * What a run with these options would be: parameters, memory, operations, and time at the speed of this machine now. For the time it runs three
 * steps, which need the memory of a run, where they fit and are likely to take less than 20 s each; with `measure: false` it runs none. A preset has
 * the vocabulary of the tokenizer, which `vocabSize` tells where one is to be trained. Writes nothing.
 *
 * @throws INVALID_OPTIONS, and the signal's reason
 * @example const { memory, totalSeconds } = await estimate({ model: "zaya-512", steps: 400 });
 */
export async function estimate(options: EstimateOptions): Promise<TrainEstimate> {
  const parsed = checkOptions(Options, options);
  const { from, model, tokenizer, vocabSize, context, windows, accumulation, dtype, steps, threads, measure, optimizer, signal } = parsed;
  expectOneModel({ model, from });
  expectTrained({ vocabSize, tokenizer, from });
  const resolved = await resolveConfig({ model, from, context }, tokenizer === undefined ? null : await tokenizerOf(tokenizer));
  const config: ModelConfig =
    typeof model === "string" && tokenizer === undefined ? { ...resolved, vocabSize: vocabSize ?? defaultVocabSize } : resolved;
  const description = describe(config, { context, batchTokens: context * windows });
  const tokensPerStep = context * windows * accumulation;
  const flopsPerStep = description.flops.training.total * tokensPerStep;
  const byKind: Partial<Record<ParameterKind, number>> = {};
  for (const { kind, shape } of parameters(config)) byKind[kind] = (byKind[kind] ?? 0) + shape.reduce((product, n) => product * n, 1);

  await using device = await openDevice("cpu", threads === undefined ? {} : { threads }).catch((error: unknown) => {
    if (isZayaError(error) && error.code === "NATIVE_UNAVAILABLE") return null;
    throw error;
  });
  const memory = { ...(await planTraining(config, parsed, device !== null)), limitBytes: memoryLimit() };
  const base = {
    config,
    description,
    parametersByKind: byKind,
    tokensPerStep,
    flopsPerStep,
    memory,
    checkpointBytes: checkpointBytes({ config, optimizer }),
  };
  if (!device)
    return {
      ...base,
      peakFlops: null,
      secondsPerStep: null,
      measured: false,
      tokensPerSecond: null,
      utilisation: null,
      totalSeconds: null,
    };
  const peakFlops = 1e9 * (await device.measure(dtype, 200));
  const assumed = flopsPerStep / (peakFlops * assumedUtilisation);
  const fits = memory.storeBytes + memory.arenaBytes <= memory.limitBytes;
  const measured = measure && fits && assumed < 20;
  const secondsPerStep = measured ? await timeSteps(device, config, parsed, signal) : assumed;
  return {
    ...base,
    peakFlops,
    secondsPerStep,
    measured,
    tokensPerSecond: tokensPerStep / secondsPerStep,
    utilisation: flopsPerStep / secondsPerStep / peakFlops,
    totalSeconds: steps === undefined ? null : steps * secondsPerStep,
  };
}

/** Seconds of the faster of two steps on random tokens, after one to warm up. */
async function timeSteps(device: Device, config: ModelConfig, options: StepOptions, signal?: AbortSignal): Promise<number> {
  await using store = device.createStore();
  allocateTrainingState(store, config, options);
  await writeFreshWeights(store, config, 1);
  await using step = compileStep(device, store, config, options);
  const seconds: number[] = [];
  for (let number = 1; number <= 3; number++) {
    signal?.throwIfAborted();
    const started = performance.now();
    const batches = Array.from({ length: options.accumulation }, (_, part) =>
      randomBatch(config.vocabSize, options.context, options.windows, number, part),
    );
    await step.run(batches, number, 1e-4);
    seconds.push((performance.now() - started) / 1000);
  }
  return Math.min(...seconds.slice(1));
}
