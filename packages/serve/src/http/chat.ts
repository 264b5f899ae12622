import { randomUUID } from "node:crypto";
import type { ChatMessage, Tokenizer } from "@zaya/model";
import type { FastifyReply } from "fastify";
import type { Engine } from "../engine.js";
import type { GenerateRequest } from "../request.js";
import { checkModel, collect, eachInTurn, expectListed, runAll, samplingOf, streamAnswers, type TokenEvent, usageOf } from "./answers.js";
import type { Metrics } from "./metrics.js";
import { type ChatBody, textOf } from "./schemas.js";
import { disconnectSignal } from "./stream.js";
import { tokenText } from "./token_text.js";

/** POST /v1/chat/completions: answers a conversation n times, through the checkpoint's chat template. */
export async function createChatCompletion(
  engine: Engine,
  metrics: Metrics,
  body: ChatBody,
  reply: FastifyReply,
): Promise<object | undefined> {
  checkModel(engine, body.model);
  const { tokenizer } = engine;
  const shared: GenerateRequest = {
    ...samplingOf(body),
    maxTokens: body.max_completion_tokens ?? body.max_tokens,
    logprobs: body.logprobs ? (body.top_logprobs ?? 0) : undefined,
    separateReasoning: true,
  };
  const messages = body.messages.map(plainMessage);
  const prompt = engine.prepare({ ...shared, messages, templateVariables: body.chat_template_kwargs });
  if (body.logprobs && !body.stream) expectListed(body.n * prompt.maxTokens, shared.logprobs ?? 0);
  const controller = disconnectSignal(reply);
  const generations = Array.from({ length: body.n }, (_, choice) =>
    metrics.observe(prompt.generate({ choice, signal: controller.signal })),
  );
  const head = { id: `chatcmpl-${randomUUID().replaceAll("-", "")}`, created: Math.floor(Date.now() / 1000), model: engine.model.id };
  const promptTokens = [prompt.promptIds.length];
  const logprobsOf = (tokens: readonly TokenEvent[]) =>
    body.logprobs ? { content: tokens.map((token) => chatLogprob(tokenizer, token)), refusal: null } : null;
  const reasoningOf = (reasoning: string | undefined) =>
    reasoning === undefined || !body.include_reasoning ? {} : { reasoning_content: reasoning };
  const promptIds = body.return_token_ids ? { prompt_token_ids: prompt.promptIds } : {};
  const idsOf = (tokens: readonly TokenEvent[]) => (body.return_token_ids ? { token_ids: tokens.map((token) => token.tokenId) } : {});

  if (!body.stream) {
    const results = await runAll(
      controller,
      generations.map((events) => () => collect(events)),
    );
    const choices = await eachInTurn(controller, results, ({ tokens, end }, index) => ({
      index,
      message: { role: "assistant", ...reasoningOf(end.reasoning), content: contentOf(end), refusal: null },
      logprobs: logprobsOf(tokens),
      finish_reason: end.finishReason,
      stop_reason: end.stopReason,
      ...idsOf(tokens),
    }));
    const usages = results.map(({ end }) => end.usage);
    return { ...head, object: "chat.completion", choices, usage: usageOf(promptTokens, usages), ...promptIds };
  }

  const unsaid = { logprobs: null, finish_reason: null };
  await streamAnswers(reply, controller, generations, {
    head: { ...head, object: "chat.completion.chunk" },
    includeUsage: body.stream_options?.include_usage ?? false,
    promptTokens,
    opening: { choice: { delta: { role: "assistant", content: "" }, ...unsaid }, fields: promptIds },
    choiceOf(event) {
      if (event.type === "generate-end") return { delta: {}, ...unsaid, finish_reason: event.finishReason, stop_reason: event.stopReason };
      if (event.type !== "token") return null;
      const thought = reasoningOf(event.reasoning);
      const thinks = "reasoning_content" in thought;
      if (event.text === "" && !thinks && !body.logprobs && !body.return_token_ids) return null;
      const delta = { ...thought, ...(thinks && event.text === "" ? {} : { content: event.text }) };
      return { delta, ...unsaid, logprobs: logprobsOf([event]), ...idsOf([event]) };
    },
  });
  return undefined;
}

/** What follows the thought; null where nothing does. */
function contentOf({ text, reasoning }: { readonly text: string; readonly reasoning?: string }): string | null {
  return reasoning !== undefined && text === "" ? null : text;
}

/** A message as chat templates expect it, which know text and no parts, and the developer as the system. */
function plainMessage(message: ChatBody["messages"][number]): ChatMessage {
  const role = message.role === "developer" ? "system" : message.role;
  return { ...message, role, content: textOf(message.content) };
}

function chatLogprob(tokenizer: Tokenizer, { tokenId, logprob, topLogprobs = [] }: TokenEvent): object {
  const entry = (id: number, value: number) => ({ token: tokenText(tokenizer, id), logprob: value, bytes: [...tokenizer.tokenBytes(id)] });
  return { ...entry(tokenId, logprob as number), top_logprobs: topLogprobs.map((top) => entry(top.tokenId, top.logprob)) };
}
