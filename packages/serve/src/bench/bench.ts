// Speed in llama-bench's terms: "pp512" reads a prompt of 512 tokens, "tg128" generates 128 tokens one after the other, both after `depth` tokens that are
// cached already. The model runner is driven directly: no HTTP, no scheduler, no sampling; the tokens are random. Every 0.4 s of generation and
// every prompt lies between two measurements of the machine's limit, since the speed of a machine may change from second to second (shareOfLimit).
import {
  createLimitMeter,
  describeMachine,
  type LimitMeter,
  type Limits,
  type Machine,
  type MeasuredSlice,
  mean,
  median,
  shareOfLimit,
  standardDeviation,
  ZayaError,
} from "@zaya/kernels";
import {
  type Checkpoint,
  describe,
  loadCheckpoint,
  type ModelConfig,
  type ParameterSpec,
  parameters,
  storedType,
  type WeightStorage,
} from "@zaya/model";
import { type CacheDtype, type ModelRunner, openModelRunner } from "../model_runner.js";
import { pageTokens } from "../runner.js";
import { type ExpertUse, expertUse } from "./routing.js";
import { type DrawToken, drawTokens, stepBatch } from "./steps.js";
import { decodeStepBytes, prefillFlops, type StepBytes } from "./work.js";

export interface BenchOptions {
  /** Type of the matrices, unless the checkpoint's are packed already, and of cached keys and values. Default bfloat16. */
  readonly dtype?: "float32" | "bfloat16";
  /** Type of cached keys and values. Default: `dtype`. */
  readonly cacheDtype?: CacheDtype | undefined;
  /** Threads of the CPU. Default: as many as the process may use. */
  readonly threads?: number;
  /** Lengths of prompts. Default [512]. */
  readonly prompt?: readonly number[];
  /** Numbers of tokens to generate. Default [128]. */
  readonly generate?: readonly number[];
  /** Tokens in the cache before. Default [0]. */
  readonly depths?: readonly number[];
  /** Sequences that generate at once; prompts are read one at a time. Default [1, 8]. */
  readonly batches?: readonly number[];
  /** Default 5. */
  readonly repetitions?: number;
  /** Told while weights are read: bytes done, and bytes of all. */
  readonly onProgress?: (doneBytes: number, totalBytes: number) => void;
  /** Ends after the current step; what was measured until then has been told. */
  readonly signal?: AbortSignal;
}

export interface BenchResult {
  /** "pp512", "tg128" … */
  readonly name: string;
  readonly dtype: string;
  readonly batch: number;
  readonly depth: number;
  /** Of all sequences together: mean of the repetitions, and their standard deviation. */
  readonly tokensPerSecond: number;
  readonly stddev: number;
  /** Tokens a second at the machine's limit in the same seconds: the bytes of a step at the speed of reading, or the operations of a prompt at the peak of products. */
  readonly limit: number;
  /** Median of the repetitions. */
  readonly fractionOfLimit: number;
}

/** What is behind a result. */
export interface BenchDetails {
  /** The limit that bounds it. */
  readonly limitedBy: keyof Limits;
  /** Bytes of one step; null for a prompt. */
  readonly bytes: StepBytes | null;
  /** Time that each kind of operation takes in one step (of a prompt: up to 512 of its tokens), the longest first. */
  readonly operations: readonly { readonly name: string; readonly milliseconds: number }[];
  /** Null in a dense model. */
  readonly experts: ExpertUse | null;
}

export type BenchEvent =
  | { readonly type: "bench-start"; readonly machine: Machine; readonly config: ModelConfig; readonly memory: ModelRunner["memory"] }
  | { readonly type: "fill"; readonly tokens: number; readonly of: number }
  | {
      readonly type: "repetition-end";
      readonly name: string;
      readonly repetition: number;
      readonly of: number;
      readonly tokensPerSecond: number;
    }
  | { readonly type: "result"; readonly result: BenchResult; readonly details: BenchDetails; readonly limits: Limits }
  | { readonly type: "bench-end"; readonly machine: Machine; readonly limits: Limits; readonly results: readonly BenchResult[] };

/** One row of the table. */
interface Test {
  readonly kind: "pp" | "tg";
  readonly tokens: number;
  readonly batch: number;
  readonly depth: number;
}

/** Tokens of one step of a prompt. */
const chunkTokens = 512;
/** Generation stops this often to look at the machine's limit. */
const sliceMilliseconds = 400;
/** Steps that are looked into for the time of operations and the experts in use. */
const inspectedSteps = 8;

/**
 * Measures how fast a checkpoint reads prompts and generates, as shares of what the machine can do.
 *
 * @throws as `createEngine`, and the signal's reason
 * @example for await (const event of bench("./checkpoint")) if (event.type === "result") console.log(event.result);
 */
export async function* bench(source: string | Checkpoint, options: BenchOptions = {}): AsyncGenerator<BenchEvent, void, undefined> {
  const checkpoint = typeof source === "string" ? await loadCheckpoint(source) : source;
  try {
    yield* benchCheckpoint(checkpoint, options);
  } finally {
    if (typeof source === "string") await checkpoint[Symbol.asyncDispose]();
  }
}

async function* benchCheckpoint(checkpoint: Checkpoint, options: BenchOptions): AsyncGenerator<BenchEvent, void, undefined> {
  const { dtype = "bfloat16", cacheDtype = dtype, threads, repetitions = 5, onProgress, signal } = options;
  const { config } = checkpoint;
  const tests = planTests(options, config.maxPositions);
  const sequences = Math.max(...tests.map(({ batch }) => batch));
  const pagesPerSequence = Math.ceil(Math.max(...tests.map(({ depth, tokens }) => depth + tokens)) / pageTokens);
  const limits = {
    maxTokens: Math.max(chunkTokens, sequences),
    maxSequences: sequences,
    maxLogitRows: sequences,
    numSlots: sequences,
    numPages: sequences * pagesPerSequence,
    pagesPerSequence,
  };
  const weights: WeightStorage = checkpoint.weights ?? { dtype, encoding: "panels" };
  await using runner = await openModelRunner(checkpoint, { limits, dtype, cacheDtype, threads, onProgress, signal });
  const machine = describeMachine(runner.device);
  const meter = createLimitMeter(runner.device);
  const draw = drawTokens(config.vocabSize, 1);
  const subject: Subject = { runner, meter, draw, weights, cacheDtype, config, signal };
  yield { type: "bench-start", machine, config, memory: runner.memory };

  await runPrompt(subject, 0, Math.min(chunkTokens, pagesPerSequence * pageTokens)); // touches every weight and buffer once
  const results: BenchResult[] = [];
  let filled = 0;
  for (const test of tests) {
    for (let cached = filled; cached < test.depth; cached = filled) {
      signal?.throwIfAborted();
      const tokens = Math.min(Math.floor(limits.maxTokens / sequences), test.depth - cached);
      await runner.run(stepBatch(runner.limits, sequences, cached, tokens, draw));
      filled = cached + tokens;
      yield { type: "fill", tokens: filled, of: test.depth };
    }
    const speeds: number[] = [];
    const fractions: number[] = [];
    const name = `${test.kind}${test.tokens}`;
    const inspection = await inspect(subject, test);
    for (let repetition = 1; repetition <= repetitions; repetition++) {
      for (const limit of ["float32", "bfloat16", "int8", "read"] as const) await meter.measure(limit);
      const slices = await repeat(subject, test, inspection);
      const tokensPerSecond = (test.batch * test.tokens) / slices.reduce((sum, { seconds }) => sum + seconds, 0);
      speeds.push(tokensPerSecond);
      fractions.push(shareOfLimit(slices));
      yield { type: "repetition-end", name, repetition, of: repetitions, tokensPerSecond };
    }
    const fractionOfLimit = median(fractions);
    const tokensPerSecond = mean(speeds);
    const result: BenchResult = {
      name,
      dtype: nameOf[expertType(config, weights)],
      batch: test.batch,
      depth: test.depth,
      tokensPerSecond,
      stddev: standardDeviation(speeds),
      limit: tokensPerSecond / fractionOfLimit,
      fractionOfLimit,
    };
    results.push(result);
    yield { type: "result", result, details: inspection, limits: meter.medians() };
  }
  yield { type: "bench-end", machine, limits: meter.medians(), results };
}

/** Every test, the shallow ones first: what one wrote to the cache is what the next begins with. */
function planTests(
  { prompt = [512], generate = [128], depths = [0], batches = [1, 8], repetitions = 5 }: BenchOptions,
  maxPositions: number,
): Test[] {
  for (const [name, values, min] of [
    ["prompt", prompt, 1],
    ["generate", generate, 1],
    ["depths", depths, 0],
    ["batches", batches, 1],
    ["repetitions", [repetitions], 1],
  ] as const) {
    const wrong = values.find((value) => !Number.isInteger(value) || value < min);
    if (wrong !== undefined) throw new ZayaError("INVALID_ARGUMENT", `${name} must be whole numbers ≥ ${min}, received ${wrong}`);
  }
  const tests = [...depths]
    .sort((a, b) => a - b)
    .flatMap((depth): Test[] => [
      ...prompt.map((tokens): Test => ({ kind: "pp", tokens, batch: 1, depth })),
      ...generate.flatMap((tokens) => batches.map((batch): Test => ({ kind: "tg", tokens, batch, depth }))),
    ]);
  if (tests.length === 0)
    throw new ZayaError("INVALID_ARGUMENT", "there is nothing to measure: give the length of a prompt or of what to generate");
  for (const { kind, tokens, depth } of tests) {
    if (depth + tokens > maxPositions)
      throw new ZayaError(
        "INVALID_ARGUMENT",
        `${kind}${tokens} at depth ${depth} is longer than the ${maxPositions} tokens the model was made for`,
      );
  }
  return tests;
}

/** What is measured. */
interface Subject {
  readonly runner: ModelRunner;
  readonly meter: LimitMeter;
  readonly draw: DrawToken;
  readonly weights: WeightStorage;
  readonly cacheDtype: CacheDtype;
  readonly config: ModelConfig;
  readonly signal: AbortSignal | undefined;
}

/** What results call the types of the matrices that most bytes are in, and the products that run in them. */
const nameOf = { float32: "float32", bfloat16: "bfloat16", int8: "q8", int6: "q6", int4: "q4" } as const;
const productsOf = { float32: "float32", bfloat16: "bfloat16", int8: "int8", int6: "int8", int4: "int8" } as const;

function expertType(config: ModelConfig, weights: WeightStorage): keyof typeof nameOf {
  const spec = parameters(config).find(({ kind }) => kind === (config.kind === "zaya" ? "expert" : "matrix"));
  return storedType(spec as ParameterSpec, weights).dtype as keyof typeof nameOf;
}

async function runPrompt({ runner, draw, signal }: Subject, depth: number, tokens: number): Promise<void> {
  for (let done = 0; done < tokens; done += chunkTokens) {
    signal?.throwIfAborted();
    await runner.run(stepBatch(runner.limits, 1, depth + done, Math.min(chunkTokens, tokens - done), draw));
  }
}

/** Looks into a few steps, which also warm up. */
async function inspect(
  { runner, draw, weights, cacheDtype, config, signal }: Subject,
  { kind, tokens, batch, depth }: Test,
): Promise<BenchDetails> {
  const nanoseconds = new Map<string, number>();
  const routing: (readonly Int32Array[])[] = [];
  const steps = kind === "pp" ? 2 : Math.min(inspectedSteps, tokens);
  for (let step = 0; step < steps; step++) {
    signal?.throwIfAborted();
    const rows = kind === "pp" ? Math.min(chunkTokens, tokens) : 1;
    const seen = await runner.inspect(stepBatch(runner.limits, batch, depth + (kind === "pp" ? 0 : step), rows, draw));
    for (const [name, each] of seen.nanoseconds) nanoseconds.set(name, (nanoseconds.get(name) ?? 0) + each);
    routing.push(seen.experts);
  }
  const operations = [...nanoseconds]
    .map(([name, all]) => ({ name, milliseconds: all / steps / 1e6 }))
    .sort((a, b) => b.milliseconds - a.milliseconds);
  const experts = config.kind === "zaya" ? expertUse(routing, config.numExperts) : null;
  if (kind === "pp") return { limitedBy: productsOf[expertType(config, weights)], bytes: null, operations, experts };
  const typeOf = (spec: ParameterSpec) => storedType(spec, weights);
  const description = describe(config, { typeOf, cacheDtype, context: Math.round(depth + (tokens + 1) / 2) });
  return { limitedBy: "read", bytes: decodeStepBytes(description, batch, experts?.distinct ?? 1), operations, experts };
}

/** One repetition, in slices that each lie between two measurements of the limit. */
async function repeat(subject: Subject, test: Test, { limitedBy, bytes }: BenchDetails): Promise<MeasuredSlice[]> {
  const { runner, meter, draw, config, signal } = subject;
  const slices: MeasuredSlice[] = [];
  let before = await meter.measure(limitedBy);
  const slice = async (run: () => Promise<number>) => {
    const begin = performance.now();
    const work = (await run()) / 1e9;
    const seconds = (performance.now() - begin) / 1000;
    const after = await meter.measure(limitedBy);
    slices.push({ seconds, work, before, after });
    before = after;
  };
  if (test.kind === "pp") {
    await slice(async () => {
      await runPrompt(subject, test.depth, test.tokens);
      return prefillFlops(config, test.depth, test.tokens);
    });
    return slices;
  }
  for (let done = 0; done < test.tokens; ) {
    await slice(async () => {
      const from = done;
      for (const begin = performance.now(); done < test.tokens && performance.now() - begin < sliceMilliseconds; done++) {
        signal?.throwIfAborted();
        await runner.run(stepBatch(runner.limits, test.batch, test.depth + done, 1, draw));
      }
      return (done - from) * (bytes?.total ?? 0);
    });
  }
  return slices;
}
