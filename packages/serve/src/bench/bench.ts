// Speed in llama-bench's terms: "pp512" reads a prompt of 512 tokens, "tg128" generates 128 tokens one after the other, both after `depth` tokens that are
// cached already. The model runner is driven directly: no HTTP, no scheduler, no sampling; the tokens are random. Every 0.4 s of generation and
// every prompt lies between two measurements of the machine's limit, since the speed of a machine may change from second to second (shareOfLimit).
import { createLimitMeter, describeMachine, type Limits, type Machine, mean, median, shareOfLimit, standardDeviation } from "@zaya/kernels";
import { type Checkpoint, loadCheckpoint, type ModelConfig } from "@zaya/model";
import { expectOptions, expectTypes } from "../expect_options.js";
import { type CacheDtype, type ModelRunner, openModelRunner } from "../model_runner.js";
import { type EngineMemory, pageTokens } from "../runner.js";
import { chunkTokens, limitsOf, planTests, type TestOptions } from "./bench_tests.js";
import { type BenchDetails, inspect } from "./inspect.js";
import { repeat } from "./repeat.js";
import { drawTokens, stepBatch } from "./steps.js";
import { mainProduct, runPrompt, type Subject } from "./subject.js";

export interface BenchOptions extends TestOptions {
  /** Type of the matrices, unless the checkpoint's are packed already, and of cached keys and values. Default bfloat16. */
  readonly dtype?: "float32" | "bfloat16" | undefined;
  /** Type of cached keys and values. Default: `dtype`. */
  readonly cacheDtype?: CacheDtype | undefined;
  /** Threads of the CPU. Default: as many as the process may use. */
  readonly threads?: number | undefined;
  /** Whether mapped weights are brought into huge pages before (as in `createEngine`). Default false. */
  readonly hugePages?: boolean | undefined;
  /** Told while weights are read: bytes done, and bytes of all. */
  readonly onProgress?: ((doneBytes: number, totalBytes: number) => void) | undefined;
  /** Ends after the current step; what was measured until then has been told, a test as its repetitions that were finished. */
  readonly signal?: AbortSignal | undefined;
}

const optionNames: Readonly<Record<keyof BenchOptions, true>> = {
  prompt: true,
  generate: true,
  depths: true,
  batches: true,
  repetitions: true,
  dtype: true,
  cacheDtype: true,
  threads: true,
  hugePages: true,
  onProgress: true,
  signal: true,
};

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

export type BenchEvent =
  | {
      readonly type: "bench-start";
      readonly machine: Machine;
      readonly config: ModelConfig;
      readonly products: ModelRunner["products"];
      readonly memory: EngineMemory;
      /** Type of cached keys and values. */
      readonly cacheDtype: CacheDtype;
    }
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

/** What results call the stored types of the matrices that most bytes are in. */
const nameOf = { float32: "float32", bfloat16: "bfloat16", int8: "q8", int6: "q6", int4: "q4" } as const;

/**
 * Measures how fast a checkpoint reads prompts and generates, as shares of what the machine can do.
 *
 * @throws as `createEngine`, INVALID_ARGUMENT for tests that cannot be, and the signal's reason
 * @example for await (const event of bench("./checkpoint")) if (event.type === "result") console.log(event.result);
 */
export async function* bench(source: string | Checkpoint, options: BenchOptions = {}): AsyncGenerator<BenchEvent, void, undefined> {
  expectOptions(options, optionNames);
  expectTypes(options);
  const checkpoint = typeof source === "string" ? await loadCheckpoint(source) : source;
  try {
    yield* benchCheckpoint(checkpoint, options);
  } finally {
    if (typeof source === "string") await checkpoint[Symbol.asyncDispose]();
  }
}

async function* benchCheckpoint(checkpoint: Checkpoint, options: BenchOptions): AsyncGenerator<BenchEvent, void, undefined> {
  const { dtype = "bfloat16", cacheDtype = dtype, threads, hugePages, repetitions = 5, onProgress, signal } = options;
  const { config } = checkpoint;
  const tests = planTests(options, config.maxPositions);
  const limits = limitsOf(tests);
  await using runner = await openModelRunner(checkpoint, { limits, dtype, cacheDtype, threads, hugePages, onProgress, signal });
  const machine = describeMachine(runner.device);
  const meter = createLimitMeter(runner.device);
  const subject: Subject = { runner, meter, draw: drawTokens(config.vocabSize, 1), cacheDtype, config, signal };
  yield { type: "bench-start", machine, config, products: runner.products, memory: runner.memory, cacheDtype };

  await runPrompt(subject, 0, Math.min(chunkTokens, limits.pagesPerSequence * pageTokens)); // touches every weight and buffer once
  const results: BenchResult[] = [];
  let filled = 0;
  for (const test of tests) {
    for (let cached = filled; cached < test.depth; cached = filled) {
      signal?.throwIfAborted();
      const tokens = Math.min(Math.floor(limits.maxTokens / limits.maxSequences), test.depth - cached);
      await runner.run(stepBatch(runner.limits, limits.maxSequences, cached, tokens, subject.draw));
      filled = cached + tokens;
      yield { type: "fill", tokens: filled, of: test.depth };
    }
    const speeds: number[] = [];
    const fractions: number[] = [];
    const name = `${test.kind}${test.tokens}`;
    const inspection = await inspect(subject, test);
    for (let repetition = 1; repetition <= repetitions; repetition++) {
      for (const limit of ["float32", "bfloat16", "int8", "read"] as const) await meter.measure(limit);
      if (signal?.aborted && repetition > 1) break;
      const slices = await repeat(subject, test, inspection).catch((error: unknown) => {
        if (!signal?.aborted || repetition === 1) throw error;
      });
      if (!slices) break;
      const tokensPerSecond = (test.batch * test.tokens) / slices.reduce((sum, { seconds }) => sum + seconds, 0);
      speeds.push(tokensPerSecond);
      fractions.push(shareOfLimit(slices));
      yield { type: "repetition-end", name, repetition, of: repetitions, tokensPerSecond };
    }
    const fractionOfLimit = median(fractions);
    const tokensPerSecond = mean(speeds);
    const result: BenchResult = {
      name,
      dtype: nameOf[mainProduct(runner).stored as keyof typeof nameOf],
      batch: test.batch,
      depth: test.depth,
      tokensPerSecond,
      stddev: standardDeviation(speeds),
      limit: tokensPerSecond / fractionOfLimit,
      fractionOfLimit,
    };
    results.push(result);
    yield { type: "result", result, details: inspection, limits: meter.medians() };
    signal?.throwIfAborted();
  }
  yield { type: "bench-end", machine, limits: meter.medians(), results };
}
