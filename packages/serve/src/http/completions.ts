import { randomUUID } from "node:crypto";
import { setImmediate } from "node:timers/promises";
import type { DecodeStream, Tokenizer } from "@zaya/model";
import type { FastifyReply } from "fastify";
import { decodeAnswer } from "../answer_decoder.js";
import type { Engine } from "../engine.js";
import type { ScoredToken } from "../logprobs.js";
import type { GenerateRequest, Usage } from "../request.js";
import { checkModel, collect, type PromptEnd, runAll, samplingOf, type TokenEvent, usageOf } from "./answers.js";
import type { Metrics } from "./metrics.js";
import { type CompletionBody, promptsOf } from "./schemas.js";
import { disconnectSignal, openEventStream } from "./stream.js";
import { tokenText } from "./token_text.js";

/** OpenAI's four parallel lists about tokens. The first token of a prompt has no probability. */
interface CompletionLogprobs {
  readonly tokens: string[];
  readonly token_logprobs: (number | null)[];
  readonly top_logprobs: (Record<string, number> | null)[];
  readonly text_offset: number[];
}

interface Choice {
  readonly index: number;
  readonly prompt: number;
  readonly request: GenerateRequest;
  readonly promptIds: readonly number[];
  /** What `echo` puts before the text, where the prompt was text. */
  readonly promptText: string | null;
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
  const choices = await choicesOf(engine, body);
  const generations = choices.map((choice) => ({
    choice,
    events: metrics.observe(engine.generate(choice.request, { signal: controller.signal })),
  }));
  const head = {
    id: `cmpl-${randomUUID().replaceAll("-", "")}`,
    object: "text_completion",
    created: Math.floor(Date.now() / 1000),
    model: engine.model.id,
  };
  const echoText = (choice: Choice, ids: readonly number[]) =>
    choice.promptText ?? tokenizer.decode(ids, { skipSpecialTokens: body.skip_special_tokens });

  if (!body.stream) {
    const results = await runAll(
      controller,
      generations.map(
        ({ events }) =>
          () =>
            collect(events),
      ),
    );
    return {
      ...head,
      choices: results.map(({ prompt, tokens, end }, index) => {
        const choice = choices[index] as Choice;
        const lists = listLogprobs(body, tokenizer, choice.promptIds);
        const logprobs = mergeLists(lists.prompt(prompt), lists.tokens(tokens));
        return {
          index,
          text: (body.echo ? echoText(choice, prompt.tokenIds) : "") + end.text,
          logprobs,
          finish_reason: end.finishReason,
          stop_reason: end.stopReason,
          ...(body.return_token_ids ? { prompt_token_ids: prompt.tokenIds, token_ids: tokens.map((token) => token.tokenId) } : {}),
        };
      }),
      usage: usageOf(
        promptTokens(
          choices,
          results.map(({ end }) => end.usage),
        ),
        results.map(({ end }) => end.usage),
      ),
    };
  }

  const stream = openEventStream(reply);
  const usage = body.stream_options?.include_usage ? { usage: null } : {};
  const chunk = (index: number, text: string, logprobs: CompletionLogprobs | null, extra: object = {}) =>
    stream.send({ ...head, choices: [{ index, text, logprobs, finish_reason: null, ...extra }], ...usage });
  try {
    const usages = await runAll(
      controller,
      generations.map(({ choice, events }) => async () => {
        const { index } = choice;
        const lists = listLogprobs(body, tokenizer, choice.promptIds);
        for await (const event of events) {
          if (event.type === "prompt-end" && (body.echo || body.return_token_ids)) {
            const text = body.echo ? echoText(choice, event.tokenIds) : "";
            chunk(index, text, lists.prompt(event), body.return_token_ids ? { prompt_token_ids: event.tokenIds } : {});
          } else if (event.type === "token" && (event.text !== "" || body.logprobs !== undefined || body.return_token_ids)) {
            chunk(index, event.text, lists.tokens([event]), body.return_token_ids ? { token_ids: [event.tokenId] } : {});
          } else if (event.type === "generate-end") {
            chunk(index, "", null, { finish_reason: event.finishReason, stop_reason: event.stopReason });
            return event.usage;
          }
        }
        throw new Error("a generation ended without its last event");
      }),
    );
    if (body.stream_options?.include_usage) stream.send({ ...head, choices: [], usage: usageOf(promptTokens(choices, usages), usages) });
    stream.end();
  } catch (error) {
    stream.end(error);
  }
  return undefined;
}

/** The choices of all prompts. A prompt is tokenised once, and other requests get their turn between two of them. */
async function choicesOf(engine: Engine, body: CompletionBody): Promise<Choice[]> {
  const shared: GenerateRequest = {
    ...samplingOf(body),
    maxTokens: body.max_tokens,
    logprobs: body.logprobs,
    promptLogprobs: body.echo ? body.logprobs : undefined,
  };
  const choices: Choice[] = [];
  for (const [prompt, given] of promptsOf(body.prompt).entries()) {
    if (prompt > 0) await setImmediate();
    const promptIds = engine.tokenize({ ...shared, prompt: given, addSpecialTokens: body.add_special_tokens });
    const promptText = typeof given === "string" ? given : null;
    for (let choice = 0; choice < body.n; choice++)
      choices.push({ index: choices.length, prompt, request: { ...shared, prompt: promptIds, choice }, promptIds, promptText });
  }
  return choices;
}

function promptTokens(choices: readonly Choice[], usages: readonly Usage[]): number[] {
  const counts: number[] = [];
  choices.forEach(({ prompt }, i) => {
    counts[prompt] = usages[i]?.promptTokens ?? 0;
  });
  return counts;
}

/** Builds the lists piece by piece; `text_offset` counts the characters before a token in prompt (where echoed) and text. */
function listLogprobs(body: CompletionBody, tokenizer: Tokenizer, promptIds: readonly number[]) {
  const skipping = { skipSpecialTokens: body.skip_special_tokens };
  const answerDecoder = decodeAnswer(tokenizer, promptIds, skipping);
  let offset = 0;

  function list(
    scored: readonly { tokenId: number; score: Omit<ScoredToken, "tokenId"> | null }[],
    decoder: DecodeStream,
  ): CompletionLogprobs {
    const lists: CompletionLogprobs = { tokens: [], token_logprobs: [], top_logprobs: [], text_offset: [] };
    for (const { tokenId, score } of scored) {
      lists.tokens.push(tokenText(tokenizer, tokenId));
      lists.token_logprobs.push(score ? score.logprob : null);
      lists.top_logprobs.push(score ? topEntries(tokenizer, { tokenId, ...score }) : null);
      lists.text_offset.push(offset);
      offset += decoder.push(tokenId).length;
    }
    return lists;
  }
  return {
    prompt({ tokenIds, logprobs }: PromptEnd): CompletionLogprobs | null {
      if (!body.echo || body.logprobs === undefined) return null;
      const decoder = tokenizer.decodeStream(skipping);
      const lists = list(
        tokenIds.map((tokenId, i) => ({ tokenId, score: logprobs?.[i] ?? null })),
        decoder,
      );
      offset += decoder.flush().length;
      return lists;
    },
    tokens(events: readonly TokenEvent[]): CompletionLogprobs | null {
      if (body.logprobs === undefined) return null;
      return list(
        events.map(({ tokenId, logprob, topLogprobs }) => ({
          tokenId,
          score: { logprob: logprob as number, topLogprobs: topLogprobs ?? [] },
        })),
        answerDecoder,
      );
    },
  };
}

function mergeLists(a: CompletionLogprobs | null, b: CompletionLogprobs | null): CompletionLogprobs | null {
  if (!a || !b) return a ?? b;
  return {
    tokens: a.tokens.concat(b.tokens),
    token_logprobs: a.token_logprobs.concat(b.token_logprobs),
    top_logprobs: a.top_logprobs.concat(b.top_logprobs),
    text_offset: a.text_offset.concat(b.text_offset),
  };
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
