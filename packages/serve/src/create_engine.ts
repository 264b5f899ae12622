import { basename, dirname, resolve } from "node:path";
import { type Device, openDevice, ZayaError } from "@zaya/kernels";
import {
  type Checkpoint,
  describe,
  loadCheckpoint,
  loadTokenizer,
  type ModelConfig,
  readTokenizerFiles,
  storedType,
  type Tokenizer,
} from "@zaya/model";
import { readEndTokens } from "./end_tokens.js";
import { assembleEngine, type Engine, type ExpectedSpeed } from "./engine.js";
import { expectOptions, expectTypes } from "./expect_options.js";
import { createIdTokenizer } from "./id_tokenizer.js";
import { type CacheDtype, type ModelRunner, openModelRunner } from "./model_runner.js";
import { pageTokens } from "./runner.js";

export interface EngineOptions {
  /** The name the model is served under. Default: the folder's name, or of `latest` and `best` that of their training run. */
  readonly name?: string | undefined;
  /** Type of the matrices; sums are always float32. Default float32; the run layout has types of its own, which go with bfloat16. */
  readonly dtype?: "float32" | "bfloat16" | undefined;
  /** Type of cached keys and values; int8 has a step for each key and each value. Default: that of the matrices. */
  readonly cacheDtype?: CacheDtype | undefined;
  /** Threads of the CPU. Default: as many as the process may use. Results do not depend on it. */
  readonly threads?: number | undefined;
  /** Most requests that run at once. Default 16. */
  readonly maxSequences?: number | undefined;
  /** Most requests that wait beside a whole batch; more are refused (QUEUE_FULL). Default 64 × `maxSequences`. */
  readonly maxWaiting?: number | undefined;
  /** Longest prompt and answer together. Default: what the model was made for, at most 4096. */
  readonly contextTokens?: number | undefined;
  /** Tokens the cache has room for, of all requests together; requests wait when it is full. Default: `maxSequences` whole contexts. */
  readonly cacheTokens?: number | undefined;
  /** Tokens in one step: a long prompt is read in chunks of this size, or a quarter of it while others decode. Default 512. */
  readonly maxBatchTokens?: number | undefined;
  /** A device to run on, which the engine does not close. Default: a CPU device of its own. */
  readonly device?: Device | undefined;
  /**
   * Bring weights that are mapped from small pages of the system's cache of files into huge ones: the file may be read again, once, and every token is up to a
   * fifth faster ({@link PrefetchOptions}). Default false.
   */
  readonly hugePages?: boolean | undefined;
  /** Measure how fast memory is read, for less than a tenth of a second, to tell `model.expected`. Default false. */
  readonly measure?: boolean | undefined;
  /** Told while weights are read: bytes done, and bytes of all. */
  readonly onProgress?: ((doneBytes: number, totalBytes: number) => void) | undefined;
  /** Stops reading weights, between two tensors; the reason is thrown. An engine that is ready does not look at it. */
  readonly signal?: AbortSignal | undefined;
}

const optionNames: Readonly<Record<keyof EngineOptions, true>> = {
  name: true,
  dtype: true,
  cacheDtype: true,
  threads: true,
  maxSequences: true,
  maxWaiting: true,
  contextTokens: true,
  cacheTokens: true,
  maxBatchTokens: true,
  device: true,
  hugePages: true,
  measure: true,
  onProgress: true,
  signal: true,
};

/** A model that is open already, in place of a folder. */
export interface EngineSource {
  readonly checkpoint: Checkpoint;
  readonly tokenizer: Tokenizer;
}

/**
 * Loads a checkpoint and makes it ready to answer many requests at a time. Without a tokenizer.json it takes and gives token ids only. Throws CHECKPOINT_INVALID, CONFIG_INVALID, TOKENIZER_INVALID,
 * NATIVE_UNAVAILABLE or INVALID_ARGUMENT.
 *
 * @example await using engine = await createEngine("./checkpoint", { dtype: "bfloat16", threads: 2 });
 */
export async function createEngine(source: string | EngineSource, options: EngineOptions = {}): Promise<Engine> {
  expectOptions(options, optionNames);
  expectTypes(options);
  const ownCheckpoint = typeof source === "string" ? await loadCheckpoint(source) : null;
  try {
    const checkpoint = ownCheckpoint ?? (source as EngineSource).checkpoint;
    const { config } = checkpoint;
    const { dtype = checkpoint.weights ? "bfloat16" : "float32", cacheDtype = dtype, threads, hugePages, onProgress, signal } = options;
    const { contextTokens, limits } = planLimits(options, config.maxPositions, config.vocabSize);
    const closesDevice = options.device === undefined;
    const device = options.device ?? (await openDevice("cpu", threads === undefined ? {} : { threads }));
    // Before the weights are there, since it takes a GiB for a moment, and before the tokenizer keeps a processor busy.
    const readBandwidth = options.measure
      ? await measureReadBandwidth(device).catch(async (error) => {
          if (closesDevice) await device[Symbol.asyncDispose]();
          throw error;
        })
      : null;
    // Native threads read weights while the tokenizer is opened here; where that fails they need not go on.
    const failed = new AbortController();
    const stopped = signal ? AbortSignal.any([signal, failed.signal]) : failed.signal;
    const opening = openModelRunner(checkpoint, {
      limits,
      dtype,
      cacheDtype,
      device,
      closesDevice,
      hugePages,
      onProgress,
      signal: stopped,
    });
    opening.catch(() => {}); // thrown below, when the tokenizer is open
    try {
      const tokenizer = await openTokenizer(source, config);
      const named = [...new Set([...config.eosTokenIds, ...(await readEndTokens(checkpoint.dir))])];
      const eosTokenIds = named.length > 0 || tokenizer.eosTokenId === null ? named : [tokenizer.eosTokenId];
      const counts = describe(config).parameters;
      const runner = await opening;
      return assembleEngine({
        runner,
        tokenizer,
        memory: runner.memory,
        maxWaiting: options.maxWaiting,
        model: {
          id: options.name ?? (typeof source === "string" ? nameOf(source) : "zaya"),
          created: Math.floor(Date.now() / 1000),
          vocabSize: config.vocabSize,
          contextTokens,
          eosTokenIds,
          totalParameters: counts.total,
          activeParameters: counts.active,
          dtype,
          cacheDtype,
          isa: runner.device.isa,
          isaReason: runner.device.isaReason,
          products: runner.products,
          typesReason: checkpoint.weights ? "the checkpoint's own" : `asked for as ${dtype}`,
          threads: runner.device.threads,
          expected: readBandwidth === null ? null : expectedSpeed(config, runner, readBandwidth),
        },
      });
    } catch (error) {
      failed.abort(error);
      await (await opening.catch(() => null))?.[Symbol.asyncDispose]();
      throw error;
    }
  } finally {
    await ownCheckpoint?.[Symbol.asyncDispose]();
  }
}

function nameOf(dir: string): string {
  const path = resolve(dir);
  const name = basename(path);
  return ["latest", "best"].includes(name) ? basename(dirname(path)) || name : name;
}

async function openTokenizer(source: string | EngineSource, { vocabSize, eosTokenIds }: ModelConfig): Promise<Tokenizer> {
  const tokenizer = typeof source === "string" ? await readTokenizer(source, vocabSize, eosTokenIds[0]) : source.tokenizer;
  if (tokenizer.vocabSize <= vocabSize) return tokenizer;
  const sizes = `the tokenizer has ${tokenizer.vocabSize} tokens, the model ${vocabSize}`;
  throw new ZayaError("CHECKPOINT_INVALID", `${sizes}; the checkpoint's tokenizer.json belongs to another model`);
}

async function readTokenizer(dir: string, vocabSize: number, eosTokenId = -1): Promise<Tokenizer> {
  const files = await readTokenizerFiles(dir);
  return "tokenizer.json" in files ? loadTokenizer(files) : createIdTokenizer(vocabSize, eosTokenId < 0 ? null : eosTokenId);
}

/** Bytes a second; the best of three, since other work on the machine can only slow a measurement down. */
async function measureReadBandwidth(device: Device): Promise<number> {
  let best = 0;
  for (let i = 0; i < 3; i++) best = Math.max(best, 1e9 * (await device.measure("read", 20, { keepBuffer: i < 2 })));
  return best;
}

function expectedSpeed(config: ModelConfig, { weights }: ModelRunner, readBandwidth: number): ExpectedSpeed {
  const { decodeBytes } = describe(config, { typeOf: (spec) => storedType(spec, weights), context: 0 });
  return { decodeBytes, readBandwidth, tokensPerSecond: readBandwidth / decodeBytes.total };
}

/** Bytes of logits that one step may give back to score prompts with. */
const promptLogitBytes = 32 * 1024 * 1024;

function planLimits(options: EngineOptions, maxPositions: number, vocabSize: number) {
  const { maxSequences = 16, contextTokens = Math.min(maxPositions, 4096) } = options;
  for (const [name, value] of Object.entries({
    maxSequences,
    contextTokens,
    cacheTokens: options.cacheTokens,
    maxBatchTokens: options.maxBatchTokens,
  })) {
    if (value !== undefined && (!Number.isInteger(value) || value < 1)) {
      throw new ZayaError("INVALID_ARGUMENT", `${name} must be a whole number ≥ 1, received ${value}`);
    }
  }
  const { maxWaiting = 0 } = options;
  if (!Number.isInteger(maxWaiting) || maxWaiting < 0)
    throw new ZayaError("INVALID_ARGUMENT", `maxWaiting must be a whole number ≥ 0, received ${maxWaiting}`);
  if (contextTokens > maxPositions) {
    throw new ZayaError("INVALID_ARGUMENT", `a context of ${contextTokens} tokens is too long; the model was made for ${maxPositions}`);
  }
  const maxTokens = Math.max(options.maxBatchTokens ?? 512, maxSequences);
  const pagesPerSequence = Math.ceil(contextTokens / pageTokens);
  const numPages = options.cacheTokens === undefined ? maxSequences * pagesPerSequence : Math.ceil(options.cacheTokens / pageTokens);
  if (numPages < pagesPerSequence) {
    throw new ZayaError(
      "INVALID_ARGUMENT",
      `a cache of ${options.cacheTokens} tokens is too small; one context of ${contextTokens} tokens must fit`,
    );
  }
  const spareRows = Math.max(8, Math.floor(promptLogitBytes / (4 * vocabSize)));
  const maxLogitRows = Math.min(maxTokens, maxSequences + spareRows);
  return { contextTokens, limits: { maxTokens, maxSequences, maxLogitRows, numPages, numSlots: maxSequences, pagesPerSequence } };
}
