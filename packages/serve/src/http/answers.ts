import { setImmediate } from "node:timers/promises";
import type { FastifyReply } from "fastify";
import type { Engine } from "../engine.js";
import type { GenerateEvent, GenerateRequest, Usage } from "../request.js";
import { HttpError } from "./errors.js";
import type { ChatBody, CompletionBody } from "./schemas.js";
import { openEventStream } from "./stream.js";

/** The sampling part of a request, in the engine's words. */
export function samplingOf(body: ChatBody | CompletionBody): Omit<GenerateRequest, "prompt" | "messages"> {
  return {
    temperature: body.temperature,
    topP: body.top_p,
    topK: body.top_k === undefined ? undefined : Math.max(0, body.top_k),
    minP: body.min_p,
    seed: seedOf(body.seed),
    stop: body.stop,
    stopTokenIds: body.stop_token_ids,
    ignoreEos: body.ignore_eos,
    skipSpecialTokens: body.skip_special_tokens,
  };
}

/** A seed of 64 bits as one that the engine takes; −1 asks for a new one, as leaving it out does. */
function seedOf(seed: number | undefined): number | undefined {
  if (seed === -1) return undefined;
  return seed === undefined || Number.isSafeInteger(seed) ? seed : Math.min(Math.trunc(seed / 2 ** 11), Number.MAX_SAFE_INTEGER);
}

/** Refuses a request for another model than the one that is loaded. */
export function checkModel(engine: Engine, model: string | undefined): void {
  if (model === undefined || model === engine.model.id) return;
  throw new HttpError(
    404,
    "model_not_found",
    `the model ${JSON.stringify(model.slice(0, 200))} does not exist; this server has ${JSON.stringify(engine.model.id)}`,
    "model",
  );
}

export type PromptEnd = Extract<GenerateEvent, { type: "prompt-end" }>;
export type TokenEvent = Extract<GenerateEvent, { type: "token" }>;
type GenerateEnd = Extract<GenerateEvent, { type: "generate-end" }>;

/** All events of one generation. */
export interface Collected {
  readonly prompt: PromptEnd;
  readonly tokens: readonly TokenEvent[];
  readonly end: GenerateEnd;
}

/** Reads a generation to its end. */
export async function collect(events: AsyncIterable<GenerateEvent>): Promise<Collected> {
  const tokens: TokenEvent[] = [];
  let prompt: PromptEnd | undefined;
  for await (const event of events) {
    if (event.type === "prompt-end") prompt = event;
    if (event.type === "token") tokens.push(event);
    if (event.type === "generate-end" && prompt) return { prompt, tokens, end: event };
  }
  throw new Error("a generation ended without its last event");
}

/** Runs several generations beside each other; where one fails the others are aborted. Throws what failed first. */
export async function runAll<T>(controller: AbortController, tasks: readonly (() => Promise<T>)[]): Promise<T[]> {
  const results = await Promise.allSettled(
    tasks.map((task) =>
      task().catch((error: unknown) => {
        controller.abort(error); // only the first counts
        throw error;
      }),
    ),
  );
  const failed = results.some(({ status }) => status === "rejected");
  if (failed) throw controller.signal.reason;
  return results.map((result) => (result as PromiseFulfilledResult<T>).value);
}

/** Makes one thing of each result; other requests get their turn between two, and nothing is made for a client that has gone. */
export async function eachInTurn<T, R>(
  controller: AbortController,
  results: readonly T[],
  make: (result: T, index: number) => R,
): Promise<R[]> {
  const made: R[] = [];
  for (const [index, result] of results.entries()) {
    if (index > 0) await setImmediate();
    controller.signal.throwIfAborted();
    made.push(make(result, index));
  }
  return made;
}

/** How the events of generations become chunks of a stream. */
export interface StreamShape {
  /** Fields of every chunk. */
  readonly head: object;
  /** What of the request's `stream_options`, and the tokens of each of its prompts. */
  readonly includeUsage: boolean;
  readonly promptTokens: readonly number[];
  /** What each choice starts with, before its prompt is read, and further fields of that chunk. */
  readonly opening?: { readonly choice: object; readonly fields: object };
  /** An event of generation `index` as a choice; null for one that is not sent. */
  choiceOf(event: GenerateEvent, index: number): object | null;
}

/** Answers with an event stream of several generations beside each other. */
export async function streamAnswers(
  reply: FastifyReply,
  controller: AbortController,
  generations: readonly AsyncIterable<GenerateEvent>[],
  { head, includeUsage, promptTokens, opening, choiceOf }: StreamShape,
): Promise<void> {
  const stream = openEventStream(reply);
  const send = (index: number, choice: object, fields: object = {}) =>
    stream.send({ ...head, choices: [{ index, ...choice }], ...(includeUsage ? { usage: null } : {}), ...fields });
  try {
    const usages = await runAll(
      controller,
      generations.map((events, index) => async () => {
        if (opening) await send(index, opening.choice, opening.fields);
        for await (const event of events) {
          const choice = choiceOf(event, index);
          if (choice) await send(index, choice);
          if (event.type === "generate-end") return event.usage;
        }
        throw new Error("a generation ended without its last event");
      }),
    );
    if (includeUsage) await stream.send({ ...head, choices: [], usage: usageOf(promptTokens, usages) });
    stream.end();
  } catch (error) {
    stream.end(error);
  }
}

/** Most log-probabilities in one answer that is not streamed: it is one string, and while it is written nobody else is answered. */
const maxListed = 2 ** 22;

/** Refuses an answer that could list more log-probabilities than fit into it. */
export function expectListed(tokens: number, top: number): void {
  const listed = tokens * (top + 1);
  if (listed <= maxListed) return;
  const advice = "ask for fewer tokens (max_tokens) or choices at a time, or for a stream";
  throw new HttpError(
    400,
    "invalid_value",
    `logprobs: up to ${listed} of them do not fit into one answer, ${maxListed} do; ${advice}`,
    "logprobs",
  );
}

/** OpenAI's usage of one answer; a prompt with several choices counts once. */
export function usageOf(prompts: readonly number[], choices: readonly Usage[]): object {
  const promptTokens = prompts.reduce((sum, n) => sum + n, 0);
  const completionTokens = choices.reduce((sum, usage) => sum + usage.completionTokens, 0);
  const thoughts = choices.flatMap(({ reasoningTokens }) => reasoningTokens ?? []);
  return {
    prompt_tokens: promptTokens,
    completion_tokens: completionTokens,
    total_tokens: promptTokens + completionTokens,
    prompt_tokens_details: { cached_tokens: 0 },
    completion_tokens_details: {
      accepted_prediction_tokens: 0,
      rejected_prediction_tokens: 0,
      ...(thoughts.length > 0 ? { reasoning_tokens: thoughts.reduce((sum, n) => sum + n, 0) } : {}),
    },
  };
}
