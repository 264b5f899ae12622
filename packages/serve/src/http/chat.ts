import { randomUUID } from "node:crypto";
import type { ChatMessage, Tokenizer } from "@zaya/model";
import type { FastifyReply } from "fastify";
import type { Engine } from "../engine.js";
import type { GenerateRequest } from "../request.js";
import { checkModel, collect, runAll, samplingOf, type TokenEvent, usageOf } from "./answers.js";
import type { Metrics } from "./metrics.js";
import type { ChatBody } from "./schemas.js";
import { disconnectSignal, openEventStream } from "./stream.js";
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
  };
  const messages = body.messages.map(plainMessage);
  const prompt = engine.tokenize({ ...shared, messages, templateVariables: body.chat_template_kwargs });
  const controller = disconnectSignal(reply);
  const generations = Array.from({ length: body.n }, (_, choice) =>
    metrics.observe(engine.generate({ ...shared, prompt, choice }, { signal: controller.signal })),
  );
  const head = { id: `chatcmpl-${randomUUID().replaceAll("-", "")}`, created: Math.floor(Date.now() / 1000), model: engine.model.id };
  const logprobsOf = (tokens: readonly TokenEvent[]) =>
    body.logprobs ? { content: tokens.map((token) => chatLogprob(tokenizer, token)), refusal: null } : null;
  const idsOf = (tokens: readonly TokenEvent[]) => (body.return_token_ids ? { token_ids: tokens.map((token) => token.tokenId) } : {});

  if (!body.stream) {
    const results = await runAll(
      controller,
      generations.map((events) => () => collect(events)),
    );
    const usages = results.map(({ end }) => end.usage);
    return {
      ...head,
      object: "chat.completion",
      choices: results.map(({ tokens, end }, index) => ({
        index,
        message: { role: "assistant", content: end.text, refusal: null },
        logprobs: logprobsOf(tokens),
        finish_reason: end.finishReason,
        stop_reason: end.stopReason,
        ...idsOf(tokens),
      })),
      usage: usageOf([usages[0]?.promptTokens ?? 0], usages),
    };
  }

  const stream = openEventStream(reply);
  const usage = body.stream_options?.include_usage ? { usage: null } : {};
  const chunk = (index: number, delta: object, tokens: readonly TokenEvent[] = [], extra: object = {}) =>
    stream.send({
      ...head,
      object: "chat.completion.chunk",
      choices: [
        {
          index,
          delta,
          logprobs: tokens.length > 0 ? logprobsOf(tokens) : null,
          finish_reason: null,
          ...(tokens.length > 0 ? idsOf(tokens) : {}),
          ...extra,
        },
      ],
      ...usage,
    });
  try {
    const usages = await runAll(
      controller,
      generations.map((events, index) => async () => {
        chunk(index, { role: "assistant", content: "" });
        for await (const event of events) {
          if (event.type === "token" && (event.text !== "" || body.logprobs || body.return_token_ids))
            chunk(index, { content: event.text }, [event]);
          if (event.type === "generate-end") {
            chunk(index, {}, [], { finish_reason: event.finishReason, stop_reason: event.stopReason });
            return event.usage;
          }
        }
        throw new Error("a generation ended without its last event");
      }),
    );
    if (body.stream_options?.include_usage) {
      stream.send({ ...head, object: "chat.completion.chunk", choices: [], usage: usageOf([usages[0]?.promptTokens ?? 0], usages) });
    }
    stream.end();
  } catch (error) {
    stream.end(error);
  }
  return undefined;
}

/** A message with its text parts joined, as chat templates expect. */
function plainMessage(message: ChatBody["messages"][number]): ChatMessage {
  const { content } = message;
  return { ...message, content: Array.isArray(content) ? content.map((part) => part.text).join("") : (content ?? "") };
}

function chatLogprob(tokenizer: Tokenizer, { tokenId, logprob, topLogprobs = [] }: TokenEvent): object {
  const entry = (id: number, value: number) => ({ token: tokenText(tokenizer, id), logprob: value, bytes: [...tokenizer.tokenBytes(id)] });
  return { ...entry(tokenId, logprob as number), top_logprobs: topLogprobs.map((top) => entry(top.tokenId, top.logprob)) };
}
