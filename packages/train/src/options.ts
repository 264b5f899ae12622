import { resolve } from "node:path";
import { ModelConfig, type PresetName } from "@zaya/model";
import { z } from "zod";
import { checkOptions } from "./check_options.js";
import { expectFormats } from "./documents.js";
import { fail } from "./errors.js";

const whole = z.int().min(1);
/** A size of a step. */
const size = whole.max(2 ** 20);
/** Kept as an absolute path, so that a run goes on from any folder. */
const path = z.string().transform((text) => resolve(text));

/** Name of a preset, or a configuration. With a preset the vocabulary is the tokenizer's. */
export const Model = z.union([z.string(), ModelConfig]);

/** AdamW for everything, or Muon for the matrices with AdamW for embedding, head and vectors. */
const OptimizerOptions = z.strictObject({
  name: z.enum(["adamw", "muon"]).default("adamw"),
  beta1: z.number().min(0).lt(1).default(0.9),
  beta2: z.number().min(0).lt(1).default(0.95),
  eps: z.number().positive().default(1e-8),
  weightDecay: z.number().min(0).default(0.1),
  /** What decays: "matrices" = everything with rows and columns, or "all". Balancing biases never do. */
  decay: z.enum(["matrices", "all"]).default("matrices"),
  /** Muon's momentum (Nesterov). */
  momentum: z.number().min(0).lt(1).default(0.95),
  /** Largest norm of the mean gradient; 0 = no clipping. */
  clip: z.number().min(0).default(1),
});

export const defaultVocabSize = 4096;

/** Everything that decides what a run computes; kept in run.json. */
export const RunOptions = z.strictObject({
  model: Model.optional(),
  /** Checkpoint to start from, with its tokenizer. Not needed any more once the run has a checkpoint of its own. */
  from: path.optional(),
  /** Text files (one document each) and .jsonl files (one a line). */
  data: z.array(path).min(1, "name at least one file").readonly(),
  /** Keys of a JSONL record that make up a document. Default: text. */
  fields: z.array(z.string()).min(1, "name at least one key").readonly().optional(),
  /**
   * Share of the text kept for evaluation, in whole documents; at most half. A single document is cut, where it fills two windows. Default 0.05,
   * and none beside `evaluationData`.
   */
  heldOut: z.number().min(0).max(0.5).optional(),
  /** Files to evaluate on instead of a share of the text. */
  evaluationData: z.array(path).min(1, "name at least one file").readonly().optional(),
  /** Folder with tokenizer.json, not needed any more once the run has a checkpoint. Default: that of `from`, else one is trained on the data. */
  tokenizer: path.optional(),
  /** Vocabulary of the tokenizer that is trained. Default 4096. */
  vocabSize: whole.optional(),
  /** Tokens of a window. */
  context: size.default(512),
  /** Windows of a microbatch. */
  windows: size.default(4),
  /** Microbatches whose gradients are summed for one update. */
  accumulation: size.default(1),
  learningRate: z.number().positive().default(1e-3),
  /** Steps of linear warm-up, fewer than those of the run. Default 20, or a tenth of the run's steps where that is less. */
  warmup: z.int().min(0).optional(),
  /** What the cosine leaves of the learning rate. */
  finalLearningRate: z.number().min(0).max(1).default(0.1),
  optimizer: OptimizerOptions.default(() => OptimizerOptions.parse({})),
  /** Learning rate of the balancing biases, constant. */
  balanceRate: z.number().min(0).default(1e-2),
  seed: z.int().min(0).default(1),
  /** What matrix products round their operands to. Weights, moments and accumulation are float32 either way. */
  dtype: z.enum(["float32", "bfloat16"]).default("bfloat16"),
});

/** What may differ from one part of a run to the next. */
export const LimitOptions = z.strictObject({
  steps: whole.optional(),
  /** Training time instead of steps; such a run is not reproducible to the bit. */
  seconds: z.number().positive().optional(),
  evaluateEvery: whole.default(100),
  /** Held-out tokens of one evaluation (whole documents, at least one). */
  evaluateTokens: whole.default(32768),
  saveEvery: whole.default(500),
  /** Checkpoints kept. */
  keep: whole.default(2),
  /** Folder of the tokenised data. Default: `tokens` in `out`. */
  cache: path.optional(),
});

const SessionOptions = z.strictObject({
  /** Folder of the run. */
  out: z.string().min(1, "name a folder"),
  /** Goes on with the run in `out`, or starts it when there is none with a checkpoint. */
  resume: z.boolean().default(false),
  /** Threads of the CPU. Results do not depend on it. */
  threads: whole.optional(),
  /** Aborting saves after the step in progress and rejects with the signal's reason. An evaluation in progress is left to the run that goes on. */
  signal: z.instanceof(AbortSignal).optional(),
});

const Options = z.strictObject({ ...RunOptions.shape, ...LimitOptions.shape, ...SessionOptions.shape });

export type TrainOptions = Omit<z.input<typeof Options>, "model"> & {
  /** Name of a preset, or a configuration. With a preset the vocabulary is the tokenizer's. Either this or `from`. */
  readonly model?: PresetName | ModelConfig | (string & {}) | undefined;
};
export type GivenOptions = z.output<typeof Options>;
/** With every option that a run needs. */
export type ParsedOptions = GivenOptions & {
  readonly fields: readonly string[];
  readonly heldOut: number;
  readonly vocabSize: number;
  readonly warmup: number;
};
export type RunOptions = z.output<typeof RunOptions>;
export type LimitOptions = z.output<typeof LimitOptions>;

/** @throws INVALID_OPTIONS with one line naming the option */
export function parseOptions(options: unknown): GivenOptions {
  const parsed = checkOptions(Options, options);
  const { steps, seconds, model, from } = parsed;
  if (steps === undefined && seconds === undefined) fail("INVALID_OPTIONS", "say how long to train: steps or seconds");
  if (steps !== undefined && seconds !== undefined) fail("INVALID_OPTIONS", "steps and seconds are both given; choose one");
  expectOneModel({ model, from });
  return parsed;
}

/** @throws INVALID_OPTIONS unless either a model or a checkpoint to start from is given */
export function expectOneModel({ model, from }: Pick<RunOptions, "model" | "from">): void {
  if (model === undefined && from === undefined)
    fail("INVALID_OPTIONS", "say what to train: model (a preset or a configuration) or from (a checkpoint)");
  if (model !== undefined && from !== undefined) fail("INVALID_OPTIONS", "model and from are both given; choose one");
}

/**
 * Fills in what was not given and is not to contradict what was: as it is in run.json where a run goes on, else by default.
 *
 * @throws INVALID_OPTIONS where options of a new run contradict each other
 */
export function completeOptions(options: GivenOptions, saved: RunOptions | null): ParsedOptions {
  const { data, evaluationData, fields, heldOut, vocabSize, warmup, steps } = options;
  if (!saved) {
    expectFormats([...data, ...(evaluationData ?? [])], fields);
    if (evaluationData && heldOut) fail("INVALID_OPTIONS", "heldOut and evaluationData are both given; choose one");
    expectTrained(options);
    if (warmup !== undefined && steps !== undefined && warmup >= steps)
      fail("INVALID_OPTIONS", `warmup: ${warmup} steps leave nothing of a run of ${steps}; take fewer, or leave it out`);
  }
  return {
    ...options,
    fields: fields ?? saved?.fields ?? ["text"],
    heldOut: heldOut ?? saved?.heldOut ?? (evaluationData ? 0 : 0.05),
    vocabSize: vocabSize ?? saved?.vocabSize ?? defaultVocabSize,
    warmup: warmup ?? saved?.warmup ?? defaultWarmup(steps),
  };
}

function defaultWarmup(steps = Number.POSITIVE_INFINITY): number {
  return Math.min(20, Math.ceil(steps / 10), steps - 1);
}

/** @throws INVALID_OPTIONS where a vocabulary is asked for and no tokenizer is trained */
export function expectTrained({ vocabSize, tokenizer, from }: Pick<RunOptions, "vocabSize" | "tokenizer" | "from">): void {
  if (vocabSize === undefined || (tokenizer === undefined && from === undefined)) return;
  const source = tokenizer === undefined ? "from" : "tokenizer";
  fail("INVALID_OPTIONS", `vocabSize and ${source} are both given, and no tokenizer is trained where that has one; choose one`);
}

/** The options that belong into run.json, from all. */
export function runOptionsOf(options: ParsedOptions): RunOptions {
  return RunOptions.parse(Object.fromEntries(Object.keys(RunOptions.shape).map((key) => [key, options[key as keyof ParsedOptions]])));
}
