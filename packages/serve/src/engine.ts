import { randomInt } from "node:crypto";
import { ZayaError } from "@zaya/kernels";
import type { Description, Tokenizer } from "@zaya/model";
import { createGeneration, type PreparedRequest } from "./generation.js";
import type { CacheDtype } from "./model_runner.js";
import type { WeightProducts } from "./products.js";
import { type GenerateEvent, type GenerateRequest, parseRequest } from "./request.js";
import type { EngineMemory, StepRunner } from "./runner.js";
import { createScheduler, type SchedulerStats } from "./scheduler.js";

/** What is known of the model that an engine runs. */
export interface ModelInfo {
  /** The name it is served under. */
  readonly id: string;
  /** Seconds since 1970 when it was loaded. */
  readonly created: number;
  readonly vocabSize: number;
  /** Longest prompt and answer together, in tokens. */
  readonly contextTokens: number;
  readonly eosTokenIds: readonly number[];
  readonly totalParameters: number;
  readonly activeParameters: number;
  readonly dtype: "float32" | "bfloat16";
  /** Type of cached keys and values. */
  readonly cacheDtype: CacheDtype;
  /** Instruction set of the kernels, and why it is this one. */
  readonly isa: string;
  readonly isaReason: string;
  /** How each kind of weights is kept and multiplied, and where the types come from: "the checkpoint's own", or the option `dtype`. */
  readonly products: readonly WeightProducts[];
  readonly typesReason: string;
  readonly threads: number;
  /** How fast it can be at most; null where it was not to be measured. */
  readonly expected: ExpectedSpeed | null;
}

/** What reading memory allows a request that runs alone: every weight that a token uses is read once. */
export interface ExpectedSpeed {
  /** Bytes that a token reads, with nothing in the cache. */
  readonly decodeBytes: Description["decodeBytes"];
  /** Bytes a second that memory was read at when the model was loaded. */
  readonly readBandwidth: number;
  readonly tokensPerSecond: number;
}

export interface EngineStats extends SchedulerStats {
  /** Whether `drain` was called: nothing new is taken. */
  readonly draining: boolean;
  /** Whether as many requests wait as may: nothing new is taken until some have ended. */
  readonly full: boolean;
  readonly memory: EngineMemory;
}

/** A loaded model that answers many requests at a time. */
export interface Engine extends AsyncDisposable {
  readonly model: ModelInfo;
  readonly tokenizer: Tokenizer;
  /**
   * Continues a prompt or a conversation. Runs beside all others in one batch; the tokens are the same as alone. Bad requests throw at once
   * (INVALID_REQUEST, CONTEXT_LENGTH_EXCEEDED, CHAT_TEMPLATE_MISSING), as do those that come when the queue is full (QUEUE_FULL); leaving the loop or aborting frees the request's memory after the running step,
   * aborting rejects with `signal.reason`; DISPOSED where the engine goes first.
   *
   * @example
   * for await (const event of engine.generate({ prompt: "Once upon", maxTokens: 40 })) if (event.type === "token") process.stdout.write(event.text);
   */
  generate(request: GenerateRequest, options?: { readonly signal?: AbortSignal | undefined }): AsyncIterable<GenerateEvent>;
  /** Checks and tokenises a request once, for one or several generations. Throws what `generate` throws. */
  prepare(request: GenerateRequest): PreparedPrompt;
  stats(): EngineStats;
  /** Takes nothing new (DRAINING) and resolves when all running requests have ended. */
  drain(): Promise<void>;
}

/** A request whose prompt was checked and tokenised. */
export interface PreparedPrompt {
  readonly promptIds: readonly number[];
  /** Most tokens that a generation makes: those asked for, or what the context leaves. */
  readonly maxTokens: number;
  /** As `Engine.generate`; `choice` tells several generations with one seed apart. Default: the request's. */
  generate(options?: { readonly choice?: number; readonly signal?: AbortSignal | undefined }): AsyncIterable<GenerateEvent>;
}

export interface EngineParts {
  readonly runner: StepRunner;
  readonly tokenizer: Tokenizer;
  readonly model: ModelInfo;
  readonly memory: EngineMemory;
  /** Most requests that wait beside those of a whole batch. Default: 64 batches. */
  readonly maxWaiting?: number | undefined;
}

/** Puts an engine together from a runner, which it then owns, and a tokenizer. */
export function assembleEngine({ runner, tokenizer, model, memory, maxWaiting }: EngineParts): Engine {
  const scheduler = createScheduler(runner);
  const { slotsTotal } = scheduler.stats();
  const most = slotsTotal + (maxWaiting ?? 64 * slotsTotal);
  let draining = false;

  function isFull(): boolean {
    const { running, waiting } = scheduler.stats();
    return running + waiting >= most;
  }

  function encode(text: string, addSpecialTokens: boolean): readonly number[] {
    return addSpecialTokens ? tokenizer.encodePrompt(text) : tokenizer.encode(text, { addSpecialTokens });
  }
  function check(given: GenerateRequest): PreparedRequest {
    if (draining) throw new ZayaError("DRAINING", "the engine is shutting down and takes no new requests");
    // Before a prompt is looked at, which takes time. All answers of a request are taken with it.
    if (isFull()) throw new ZayaError("QUEUE_FULL", `the queue is full, with ${most} running or waiting; ask again later`);
    const request = parseRequest(given);
    const tooLong = (promptTokens: number, atLeast = "") => {
      const wanted = request.maxTokens === undefined ? "" : ` and ${request.maxTokens} to generate`;
      const field = request.messages ? "messages" : "prompt";
      const sizes = `the context is ${model.contextTokens} tokens; the request has ${atLeast}${promptTokens} in the prompt${wanted}`;
      const fewer = wanted !== "" && promptTokens < model.contextTokens ? " or ask for fewer tokens" : "";
      return new ZayaError("CONTEXT_LENGTH_EXCEEDED", `${field}: ${sizes}; shorten the ${field}${fewer}`);
    };
    // Everything else waits while a conversation is rendered or a text tokenised: one that cannot fit is not. A message is a token at least.
    const messages = request.messages?.length ?? 0;
    if (messages > model.contextTokens) throw tooLong(messages, "at least ");
    const prompt = promptOf(given, tokenizer);
    if (typeof prompt === "string") {
      const least = Math.ceil(Buffer.byteLength(prompt) / tokenizer.maxTokenBytes);
      if (least > model.contextTokens) throw tooLong(least, "at least ");
    }
    const promptIds = typeof prompt === "string" ? encode(prompt, request.addSpecialTokens) : prompt;
    if (promptIds.length === 0) throw new ZayaError("INVALID_REQUEST", "prompt: an empty prompt has no token to start from");
    const wrong = promptIds.find((id) => id >= model.vocabSize);
    if (wrong !== undefined)
      throw new ZayaError("INVALID_REQUEST", `prompt: token ${wrong} is outside the vocabulary of ${model.vocabSize}`);
    const room = model.contextTokens - promptIds.length;
    if (room < (request.maxTokens ?? 1)) throw tooLong(promptIds.length);
    return {
      request,
      promptIds,
      maxTokens: request.maxTokens ?? room,
      seed: request.seed ?? randomInt(2 ** 47),
      endTokenIds: new Set([...(request.ignoreEos ? [] : model.eosTokenIds), ...request.stopTokenIds]),
    };
  }

  async function* run(prepared: PreparedRequest, signal?: AbortSignal): AsyncGenerator<GenerateEvent, void, undefined> {
    signal?.throwIfAborted();
    const generation = createGeneration(prepared, tokenizer);
    const ticket = scheduler.submit(generation.job);
    const abort = () => generation.job.fail(signal?.reason);
    signal?.addEventListener("abort", abort, { once: true });
    try {
      for (;;) {
        const event = await generation.next();
        signal?.throwIfAborted();
        yield event;
        if (event.type === "generate-end") return;
      }
    } finally {
      signal?.removeEventListener("abort", abort);
      await ticket.cancel();
    }
  }

  function prepare(given: GenerateRequest): PreparedPrompt {
    const prepared = check(given);
    const { request, promptIds, maxTokens } = prepared;
    return {
      promptIds,
      maxTokens,
      generate: ({ choice = request.choice, signal } = {}) => run({ ...prepared, request: { ...request, choice } }, signal),
    };
  }

  return {
    model,
    tokenizer,
    generate: (request, options) => prepare(request).generate(options),
    prepare,
    stats: () => ({ ...scheduler.stats(), draining, full: isFull(), memory }),
    async drain() {
      draining = true;
      await scheduler.idle();
    },
    [Symbol.asyncDispose]: () => scheduler[Symbol.asyncDispose](),
  };
}

/** A prompt as text, or as the token ids that were given. */
function promptOf({ prompt, messages, templateVariables }: GenerateRequest, tokenizer: Tokenizer): string | readonly number[] {
  if (messages) return tokenizer.applyChatTemplate(messages, { addGenerationPrompt: true, variables: templateVariables });
  return prompt ?? [];
}
