import type { Engine } from "../engine.js";
import type { GenerateEvent, GenerateRequest, Usage } from "../request.js";
import { HttpError } from "./errors.js";
import type { ChatBody, CompletionBody } from "./schemas.js";

/** The sampling part of a request, in the engine's words. */
export function samplingOf(body: ChatBody | CompletionBody): Omit<GenerateRequest, "prompt" | "messages"> {
  return {
    temperature: body.temperature,
    topP: body.top_p,
    topK: body.top_k === undefined ? undefined : Math.max(0, body.top_k),
    minP: body.min_p,
    seed: body.seed,
    stop: body.stop,
    stopTokenIds: body.stop_token_ids,
    ignoreEos: body.ignore_eos,
    skipSpecialTokens: body.skip_special_tokens,
  };
}

/** Refuses a request for another model than the one that is loaded. */
export function checkModel(engine: Engine, model: string | undefined): void {
  if (model === undefined || model === engine.model.id) return;
  throw new HttpError(
    404,
    "model_not_found",
    `the model ${JSON.stringify(model)} does not exist; this server has ${JSON.stringify(engine.model.id)}`,
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

/** Runs several generations beside each other; where one fails the others are aborted. */
export async function runAll<T>(controller: AbortController, tasks: readonly (() => Promise<T>)[]): Promise<T[]> {
  let failed = false;
  let first: unknown;
  const results = await Promise.all(
    tasks.map((task) =>
      task().catch((error: unknown) => {
        if (!failed) first = error;
        failed = true;
        controller.abort(error);
        return undefined as T;
      }),
    ),
  );
  if (failed) throw first;
  return results;
}

/** OpenAI's usage of one answer; a prompt with several choices counts once. */
export function usageOf(prompts: readonly number[], choices: readonly Usage[]): object {
  const promptTokens = prompts.reduce((sum, n) => sum + n, 0);
  const completionTokens = choices.reduce((sum, usage) => sum + usage.completionTokens, 0);
  return {
    prompt_tokens: promptTokens,
    completion_tokens: completionTokens,
    total_tokens: promptTokens + completionTokens,
    prompt_tokens_details: { cached_tokens: 0 },
    completion_tokens_details: { reasoning_tokens: 0, accepted_prediction_tokens: 0, rejected_prediction_tokens: 0 },
  };
}
