import { createHash } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createGraph, type Device, openDevice, type Store } from "@zaya/kernels";
import {
  buildLoss,
  loadCheckpoint,
  loadTokenizer,
  loadWeights,
  type ModelConfig,
  parameters,
  storedType,
  type TokenizerFiles,
  type WeightStorage,
} from "@zaya/model";
import { z } from "zod";
import { checkOptions } from "./check_options.js";
import { type Corpus, openCorpus } from "./corpus.js";
import { expectFormats } from "./documents.js";
import { fail } from "./errors.js";
import type { EvaluationEnd } from "./events.js";
import { expertLoad } from "./load.js";
import { expectRoom, type PlannedMemory, planMemory } from "./memory.js";
import { batchInputs } from "./step.js";
import { tokenizerOf } from "./tokenizer_files.js";
import { type Batch, cutWindows, type Windows } from "./windows.js";

/** Sums over some windows. */
export interface LossSums {
  readonly lossSum: number;
  readonly labels: number;
  /** Tokens of each class [E+1], a layer each. */
  readonly counts: readonly Float64Array[];
}

export interface Evaluator extends AsyncDisposable {
  readonly arenaBytes: number;
  /** The loss of one microbatch, summed over its labels. */
  lossSum(batch: Batch): Promise<number>;
  /** Yields the sums so far after every microbatch. Aborting rejects with the signal's reason. */
  run(windows: Windows, signal?: AbortSignal): AsyncGenerator<LossSums>;
}

export interface EvaluatorOptions {
  readonly context: number;
  readonly windows: number;
  readonly weights: WeightStorage;
  /** What matrix products round their operands to. Default: bfloat16 where the weights are, else float32. */
  readonly dtype?: "float32" | "bfloat16";
}

/** Compiles the loss without gradients for a store that holds the weights. */
export function compileEvaluator(
  device: Device,
  store: Store,
  config: ModelConfig,
  { context, windows: each, weights, dtype }: EvaluatorOptions,
): Evaluator {
  const graph = createGraph();
  const loss = buildLoss(graph, config, {
    maxTokens: context * each,
    maxSequences: context * each,
    weights,
    ...(dtype ? { compute: dtype } : {}),
  });
  graph.output("loss_sum", loss.lossSum);
  loss.forward.layers.forEach(({ routing }, layer) => {
    if (routing) graph.output(`counts.${layer}`, routing.counts);
  });
  const executable = device.compile(graph, store);
  const execute = (batch: Batch, signal?: AbortSignal) =>
    executable.run({ inputs: { ...batchInputs(batch), labels: batch.labels }, ...(signal ? { signal } : {}) });
  return {
    arenaBytes: executable.arenaBytes,
    lossSum: async (batch) => ((await execute(batch)).loss_sum as Float32Array)[0] as number,
    async *run(windows, signal) {
      let lossSum = 0;
      let labels = 0;
      const counts = config.kind === "zaya" ? Array.from({ length: config.numLayers }, () => new Float64Array(config.numExperts + 1)) : [];
      for (let first = 0; first < windows.count; first += each) {
        const batch = await windows.batch(Array.from({ length: Math.min(each, windows.count - first) }, (_, i) => first + i));
        const results = await execute(batch, signal);
        lossSum += (results.loss_sum as Float32Array)[0] as number;
        labels += batch.labels.length;
        counts.forEach((sums, layer) => {
          for (const [e, n] of (results[`counts.${layer}`] as Float32Array).entries()) sums[e] = (sums[e] as number) + n;
        });
        yield { lossSum, labels, counts };
      }
    },
    [Symbol.asyncDispose]: () => executable[Symbol.asyncDispose](),
  };
}

/** Nats a token and bits a byte. */
export function lossFigures(
  { lossSum, labels }: Pick<LossSums, "lossSum" | "labels">,
  bytes: number,
): { loss: number; bitsPerByte: number } {
  return { loss: lossSum / labels, bitsPerByte: lossSum / Math.LN2 / bytes };
}

const Options = z.strictObject({
  /** Folder of a checkpoint in any layout, with its tokenizer. */
  checkpoint: z.string(),
  data: z.array(z.string()).min(1, "name at least one file").readonly(),
  /** Keys of a JSONL record that make up a document. Default: text. */
  fields: z.array(z.string()).min(1, "name at least one key").readonly().optional(),
  context: z.int().min(1).default(512),
  windows: z.int().min(1).default(4),
  /** Element type of the matrices. Default: bfloat16; the weights of a run layout are evaluated as they lie, in types of their own. */
  dtype: z.enum(["float32", "bfloat16"]).optional(),
  threads: z.int().min(1).optional(),
  /** Folder of the tokenised data. Default: a temporary one, removed at the end. */
  cache: z.string().optional(),
  signal: z.instanceof(AbortSignal).optional(),
});
export type EvaluateOptions = z.input<typeof Options> & {
  /** Told while the weights are read: bytes done, and bytes of all. */
  readonly onProgress?: ((doneBytes: number, totalBytes: number) => void) | undefined;
};

export type EvaluateEvent =
  | { readonly type: "batch-end"; readonly tokens: number; readonly totalTokens: number; readonly loss: number }
  | (Omit<EvaluationEnd, "step"> & { readonly maxMeanExpertLoad: number | null; readonly skipFraction: number | null });

/**
 * The loss of a checkpoint on files: nats a token and bits a UTF-8 byte. Every token but the first of a document is predicted once,
 * from what precedes it in its document and window.
 *
 * @throws INVALID_OPTIONS, INVALID_DATA, LOSS_NOT_FINITE, and what @zaya/model throws for a checkpoint that cannot be used
 * @example for await (const event of evaluate({ checkpoint: "runs/first/latest", data: ["runs/first/held-out.jsonl"] })) console.log(event);
 */
export async function* evaluate({ onProgress, ...options }: EvaluateOptions): AsyncGenerator<EvaluateEvent> {
  const { checkpoint: dir, data, fields, context, windows: each, dtype, threads, cache, signal } = checkOptions(Options, options);
  expectFormats(data, fields);
  await using checkpoint = await loadCheckpoint(dir);
  const tokenizerFiles = await tokenizerOf(dir);
  if (checkpoint.weights && dtype !== undefined)
    fail("INVALID_OPTIONS", `dtype: the weights of ${dir} are packed already, in types of their own; leave it out`);
  const weights: WeightStorage = checkpoint.weights ?? { dtype: dtype ?? "bfloat16", encoding: "panels" };
  const shape = { context, windows: each, weights };
  expectRoom("an evaluation", await planEvaluation(checkpoint.config, shape));
  await using folder = cache === undefined ? await temporaryFolder() : { path: cache, [Symbol.asyncDispose]: async () => {} };
  await using corpus = await tokeniseFor(checkpoint.config, {
    tokenizerFiles,
    files: data,
    fields: fields ?? ["text"],
    context,
    cache: folder.path,
    signal,
  });
  const windows = cutWindows(
    corpus,
    Array.from({ length: corpus.numDocuments }, (_, d) => d),
    context,
  );
  if (windows.numPairs === 0) fail("INVALID_DATA", `${data.join(", ")}: there is no token to predict`);
  await using device = await openDevice("cpu", threads === undefined ? {} : { threads });
  await using store = device.createStore();
  await loadWeights(store, checkpoint, { ...weights, ...(onProgress ? { onProgress } : {}), ...(signal ? { signal } : {}) });
  await using evaluator = compileEvaluator(device, store, checkpoint.config, shape);
  let sums: LossSums = { lossSum: 0, labels: 0, counts: [] };
  for await (sums of evaluator.run(windows, signal)) {
    if (!Number.isFinite(sums.lossSum)) fail("LOSS_NOT_FINITE", `${dir}: the loss of the first ${sums.labels} tokens is ${sums.lossSum}`);
    yield { type: "batch-end", tokens: sums.labels, totalTokens: windows.numPairs, loss: sums.lossSum / sums.labels };
  }
  yield {
    type: "evaluation-end",
    ...lossFigures(sums, windows.numBytes),
    tokens: sums.labels,
    bytes: windows.numBytes,
    ...expertLoad(sums.counts),
  };
}

function planEvaluation(config: ModelConfig, options: EvaluatorOptions): Promise<PlannedMemory> {
  return planMemory((device, store) => {
    for (const spec of parameters(config)) store.allocate(spec.name, storedType(spec, options.weights));
    return compileEvaluator(device, store, config, options);
  });
}

async function temporaryFolder(): Promise<{ readonly path: string } & AsyncDisposable> {
  const path = await mkdtemp(join(tmpdir(), "zaya-tokens-"));
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
}

/** Tokenises files for a model, with its tokenizer. */
export async function tokeniseFor(
  config: Pick<ModelConfig, "vocabSize">,
  options: {
    tokenizerFiles: TokenizerFiles;
    files: readonly string[];
    fields: readonly string[];
    context: number;
    tail?: number;
    cache: string;
    signal?: AbortSignal | undefined;
  },
): Promise<Corpus> {
  const { tokenizerFiles, files, fields, context, tail, cache, signal } = options;
  const tokenizer = await loadTokenizer(tokenizerFiles);
  if (tokenizer.vocabSize > config.vocabSize) {
    fail("INVALID_OPTIONS", `the tokenizer has ${tokenizer.vocabSize} tokens and the model only ${config.vocabSize} rows for them`);
  }
  return await openCorpus({
    files,
    tokenizer,
    tokenizerFingerprint: fingerprintOf(tokenizerFiles),
    fields,
    maxLength: documentLength(context),
    tail,
    cache,
    signal,
  });
}

/** Long texts are cut into documents of this many characters: many windows each, and still many documents of which some are held out. */
export function documentLength(context: number): number {
  return Math.max(16384, 16 * context);
}

function fingerprintOf(files: TokenizerFiles): string {
  const hash = createHash("sha256");
  for (const name of ["tokenizer.json", "tokenizer_config.json"]) {
    const content = files[name];
    if (content !== undefined) hash.update(name).update("\0").update(content);
  }
  return hash.digest("hex");
}
