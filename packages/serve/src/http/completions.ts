import { randomUUID } from "node:crypto";
import { setImmediate } from "node:timers/promises";
import type { DecodeStream, Tokenizer } from "@zaya/model";
import type { FastifyReply } from "fastify";
import { decodeAnswer } from "../answer_decoder.js";
import type { Engine, PreparedPrompt } from "../engine.js";
import type { ScoredToken } from "../logprobs.js";
import type { GenerateRequest } from "../request.js";
import {
  checkModel,
  collect,
  eachInTurn,
  expectListed,
  type PromptEnd,
  runAll,
  samplingOf,
  streamAnswers,
  type TokenEvent,
  usageOf,
} from "./answers.js";
import type { Metrics } from "./metrics.js";
import { type CompletionBody, promptsOf } from "./schemas.js";
import { disconnectSignal } from "./stream.js";
import { tokenText } from "./token_text.js";

/** OpenAI's four parallel lists about tokens. The first token of a prompt has no probability. */
interface CompletionLogprobs {
  readonly tokens: string[];
  readonly token_logprobs: (number | null)[];
  readonly top_logprobs: (Record<string, number> | null)[];
  readonly text_offset: number[];
}

interface Prompt {
  readonly prepared: PreparedPrompt;
  /** What `echo` puts before the text, where the prompt was text. */
  readonly text: string | null;
}

/** POST /v1/completions: continues each prompt n times. Choice i·n + j is the j-th of prompt i. */
export async function createCompletion(
  engine: Engine,
  metrics: Metrics,
  body: CompletionBody,
  reply: FastifyReply,
): Promise<object | undefined> {
  checkModel(engine, body.model);
  const { tokenizer } = engine;
  const controller = disconnectSignal(reply);
  const prompts = await preparePrompts(engine, body);
  const choices = prompts.flatMap((prompt) => Array.from({ length: body.n }, (_, choice) => ({ prompt, choice })));
  if (body.logprobs !== undefined && !body.stream) {
    const listed = choices.map(({ prompt: { prepared } }) => (body.echo ? prepared.promptIds.length : 0) + prepared.maxTokens);
    expectListed(
      listed.reduce((sum, tokens) => sum + tokens, 0),
      body.logprobs,
    );
  }
  const generations = choices.map(({ prompt, choice }) => metrics.observe(prompt.prepared.generate({ choice, signal: controller.signal })));
  const head = {
    id: `cmpl-${randomUUID().replaceAll("-", "")}`,
    object: "text_completion",
    created: Math.floor(Date.now() / 1000),
    model: engine.model.id,
  };
  const promptTokens = prompts.map(({ prepared }) => prepared.promptIds.length);
  const promptOf = (index: number) => (choices[index] as (typeof choices)[number]).prompt;
  const echoText = ({ text, prepared }: Prompt) =>
    body.echo ? (text ?? tokenizer.decode(prepared.promptIds, { skipSpecialTokens: body.skip_special_tokens })) : "";

  if (!body.stream) {
    const results = await runAll(
      controller,
      generations.map((events) => () => collect(events)),
    );
    const answers = await eachInTurn(controller, results, ({ prompt, tokens, end }, index) => {
      const lists = listLogprobs(body, tokenizer, prompt.tokenIds);
      lists.addPrompt(prompt);
      lists.addTokens(tokens);
      return {
        index,
        text: echoText(promptOf(index)) + end.text,
        logprobs: lists.take(),
        finish_reason: end.finishReason,
        stop_reason: end.stopReason,
        ...(body.return_token_ids ? { prompt_token_ids: prompt.tokenIds, token_ids: tokens.map((token) => token.tokenId) } : {}),
      };
    });
    const usages = results.map(({ end }) => end.usage);
    return { ...head, choices: answers, usage: usageOf(promptTokens, usages) };
  }

  const lists = choices.map(({ prompt: { prepared } }) => listLogprobs(body, tokenizer, prepared.promptIds));
  const wantsEach = body.logprobs !== undefined || body.return_token_ids;
  await streamAnswers(reply, controller, generations, {
    head,
    includeUsage: body.stream_options?.include_usage ?? false,
    promptTokens,
    choiceOf(event, index) {
      const list = lists[index] as LogprobLists;
      const said = (text: string, ids: object) => ({
        text,
        logprobs: list.take(),
        finish_reason: null,
        ...(body.return_token_ids ? ids : {}),
      });
      if (event.type === "generate-end")
        return { text: "", logprobs: null, finish_reason: event.finishReason, stop_reason: event.stopReason };
      if (event.type === "prompt-end") {
        if (!body.echo && !body.return_token_ids) return null;
        list.addPrompt(event);
        return said(echoText(promptOf(index)), { prompt_token_ids: event.tokenIds });
      }
      if (event.text === "" && !wantsEach) return null;
      list.addTokens([event]);
      return said(event.text, { token_ids: [event.tokenId] });
    },
  });
  return undefined;
}

/** A prompt is tokenised once, and other requests get their turn between two of them. */
async function preparePrompts(engine: Engine, body: CompletionBody): Promise<Prompt[]> {
  const shared: GenerateRequest = {
    ...samplingOf(body),
    maxTokens: body.max_tokens,
    logprobs: body.logprobs,
    promptLogprobs: body.echo ? body.logprobs : undefined,
  };
  const prompts: Prompt[] = [];
  for (const given of promptsOf(body.prompt)) {
    if (prompts.length > 0) await setImmediate();
    const prepared = engine.prepare({ ...shared, prompt: given, addSpecialTokens: body.add_special_tokens });
    prompts.push({ prepared, text: typeof given === "string" ? given : null });
  }
  return prompts;
}

/** The lists about one choice, which grow as it does. */
interface LogprobLists {
  addPrompt(prompt: PromptEnd): void;
  addTokens(events: readonly TokenEvent[]): void;
  /** What was added since the last time; null where nothing is wanted. */
  take(): CompletionLogprobs | null;
}

/** `text_offset` counts the characters (code points) before a token in prompt (where echoed) and text. */
function listLogprobs(body: CompletionBody, tokenizer: Tokenizer, promptIds: readonly number[]): LogprobLists {
  const skipping = { skipSpecialTokens: body.skip_special_tokens };
  const answerDecoder = decodeAnswer(tokenizer, promptIds, skipping);
  const none = (): CompletionLogprobs => ({ tokens: [], token_logprobs: [], top_logprobs: [], text_offset: [] });
  let lists = none();
  let offset = 0;
  const add = (tokenId: number, score: Omit<ScoredToken, "tokenId"> | null, decoder: DecodeStream) => {
    lists.tokens.push(tokenText(tokenizer, tokenId));
    lists.token_logprobs.push(score ? score.logprob : null);
    lists.top_logprobs.push(score ? topEntries(tokenizer, { tokenId, ...score }) : null);
    lists.text_offset.push(offset);
    offset += countCharacters(decoder.push(tokenId));
  };
  return {
    addPrompt({ tokenIds, logprobs }) {
      if (!body.echo || body.logprobs === undefined) return;
      const decoder = tokenizer.decodeStream(skipping);
      tokenIds.forEach((tokenId, i) => {
        add(tokenId, logprobs?.[i] ?? null, decoder);
      });
      offset += countCharacters(decoder.flush());
    },
    addTokens(events) {
      if (body.logprobs === undefined) return;
      for (const { tokenId, logprob, topLogprobs = [] } of events) add(tokenId, { logprob: logprob as number, topLogprobs }, answerDecoder);
    },
    take() {
      const taken = lists;
      lists = none();
      return body.logprobs === undefined ? null : taken;
    },
  };
}

function countCharacters(text: string): number {
  let count = 0;
  for (const _ of text) count++;
  return count;
}

/** The most probable tokens and the chosen one by their text. Where two tokens read the same, the more probable one stands. */
function topEntries(tokenizer: Tokenizer, { tokenId, logprob, topLogprobs }: ScoredToken): Record<string, number> {
  const entries = new Map<string, number>(); // an object has members of its own, such as "constructor"
  for (const entry of [...topLogprobs, { tokenId, logprob }]) {
    const text = tokenText(tokenizer, entry.tokenId);
    if (!entries.has(text)) entries.set(text, entry.logprob);
  }
  return Object.fromEntries(entries);
}
