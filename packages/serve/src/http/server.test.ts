import { createServer as createHttpServer } from "node:http";
import type { AddressInfo } from "node:net";
import type { FastifyInstance } from "fastify";
import OpenAI, { APIError, BadRequestError, NotFoundError } from "openai";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Engine } from "../engine.js";
import { createToyEngine } from "../testing.js";
import { createHandler, createServer } from "./server.js";

let engine: Engine;
let server: FastifyInstance;
let origin: string;
let client: OpenAI;

beforeAll(async () => {
  ({ engine } = await createToyEngine());
  server = await createServer(engine);
  origin = await server.listen({ port: 0, host: "127.0.0.1" });
  client = new OpenAI({ baseURL: `${origin}/v1`, apiKey: "none", maxRetries: 0 });
});
afterAll(async () => {
  await server.close();
  await engine[Symbol.asyncDispose]();
});

const messages = [{ role: "user" as const, content: "the quick fox" }];
/** Parameters beyond OpenAI's, which its client passes on but does not type. */
const extra = (fields: object) => fields as object;

async function post(path: string, body: unknown, headers: Record<string, string> = {}): Promise<Response> {
  return fetch(`${origin}${path}`, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: typeof body === "string" ? body : JSON.stringify(body),
  });
}

async function untilIdle(): Promise<void> {
  while (engine.stats().running > 0 || engine.stats().waiting > 0) await new Promise((resolve) => setImmediate(resolve));
}

describe("models", () => {
  test("lists the model and gives it by name", async () => {
    const models = await client.models.list();
    expect(models.data.map((model) => [model.id, model.object])).toEqual([["toy", "model"]]);
    expect(await client.models.retrieve("toy")).toMatchObject({ id: "toy", object: "model", created: 1_700_000_000 });
  });

  test("answers 404 model_not_found for another", async () => {
    await expect(client.models.retrieve("gpt-4")).rejects.toThrow(NotFoundError);
    await expect(client.completions.create({ model: "gpt-4", prompt: "x" })).rejects.toMatchObject({
      status: 404,
      code: "model_not_found",
      param: "model",
    });
  });
});

describe("completions", () => {
  const request = { model: "toy", prompt: "the lazy dog", max_tokens: 12, seed: 4 };

  test("continues a text and counts tokens", async () => {
    const answer = await client.completions.create({ ...request, ...extra({ ignore_eos: true, return_token_ids: true }) });
    const [choice] = answer.choices as (OpenAI.CompletionChoice & { token_ids: number[] })[];
    expect(answer).toMatchObject({ object: "text_completion", model: "toy" });
    expect(answer.id).toMatch(/^cmpl-\w+$/);
    expect(choice).toMatchObject({ index: 0, finish_reason: "length", logprobs: null });
    expect(choice?.text).toBe(engine.tokenizer.decode(choice?.token_ids as number[]));
    const promptTokens = engine.tokenizer.encodePrompt(request.prompt).length;
    expect(answer.usage).toEqual({
      prompt_tokens: promptTokens,
      completion_tokens: 12,
      total_tokens: promptTokens + 12,
      prompt_tokens_details: { cached_tokens: 0 },
      completion_tokens_details: { reasoning_tokens: 0, accepted_prediction_tokens: 0, rejected_prediction_tokens: 0 },
    });
  });

  test("streams the same text, with usage in a chunk of its own where asked", async () => {
    const whole = await client.completions.create(request);
    const stream = await client.completions.create({ ...request, stream: true, stream_options: { include_usage: true } });
    let text = "";
    const chunks: OpenAI.Completion[] = [];
    for await (const chunk of stream) {
      chunks.push(chunk);
      text += chunk.choices[0]?.text ?? "";
    }
    expect(text).toBe(whole.choices[0]?.text);
    expect(new Set(chunks.map((chunk) => chunk.id)).size).toBe(1);
    expect(chunks.at(-2)?.choices[0]?.finish_reason).toBe(whole.choices[0]?.finish_reason);
    expect(chunks.at(-1)).toMatchObject({ choices: [], usage: whole.usage });
    expect(chunks.slice(0, -1).every((chunk) => chunk.usage === null)).toBe(true);
  });

  test("takes lists of texts and of token ids, n of each, indexed in order", async () => {
    const texts = await client.completions.create({ ...request, prompt: ["the fox", "over the dog"], n: 2 });
    const ids = ["the fox", "over the dog"].map((text) => engine.tokenizer.encodePrompt(text));
    const tokens = await client.completions.create({ ...request, prompt: ids, n: 2 });
    expect(texts.choices.map((choice) => choice.index)).toEqual([0, 1, 2, 3]);
    expect(tokens.choices).toEqual(texts.choices);
    expect(texts.choices[0]?.text).not.toBe(texts.choices[1]?.text);
    expect(texts.usage?.prompt_tokens).toBe(ids.flat().length);
  });

  test("scores a token-id prompt and one more token, as evaluation harnesses ask", async () => {
    const prompts = [
      [2, 40, 41, 42, 43],
      [2, 9, 8, 7],
    ];
    const answer = await client.completions.create({
      model: "toy",
      prompt: prompts,
      max_tokens: 1,
      temperature: 0,
      logprobs: 1,
      echo: true,
      seed: 1234,
    });
    answer.choices.forEach((choice, i) => {
      const lists = choice.logprobs as OpenAI.CompletionChoice.Logprobs;
      const length = (prompts[i] as number[]).length + 1;
      for (const list of [lists.tokens, lists.token_logprobs, lists.top_logprobs, lists.text_offset]) expect(list?.length).toBe(length);
      expect(lists.token_logprobs?.[0]).toBeNull();
      expect(lists.top_logprobs?.[0]).toBeNull();
      lists.top_logprobs?.slice(1).forEach((top, t) => {
        const own = lists.token_logprobs?.[t + 1] as number;
        expect(top[lists.tokens?.[t + 1] as string]).toBe(own);
        expect(Math.max(...Object.values(top))).toBeGreaterThanOrEqual(own);
      });
      // The generated token is greedy: it is the arg-max, to the last bit.
      expect(Math.max(...Object.values(lists.top_logprobs?.at(-1) ?? {}))).toBe(lists.token_logprobs?.at(-1));
      const text = engine.tokenizer.decode(prompts[i] as number[]);
      expect(choice.text.startsWith(text)).toBe(true);
      expect(lists.text_offset?.at(-1)).toBe(text.length);
    });
  });

  test("echoes the prompt, streaming too, and scores it without generating", async () => {
    const whole = await client.completions.create({ ...request, echo: true });
    expect(whole.choices[0]?.text.startsWith(request.prompt)).toBe(true);
    const stream = await client.completions.create({ ...request, echo: true, stream: true });
    let text = "";
    for await (const chunk of stream) text += chunk.choices[0]?.text ?? "";
    expect(text).toBe(whole.choices[0]?.text);
    const scored = await client.completions.create({ ...request, echo: true, max_tokens: 0, logprobs: 2 });
    expect(scored.choices[0]?.text).toBe(request.prompt);
    expect(scored.choices[0]?.logprobs?.tokens?.length).toBe(engine.tokenizer.encodePrompt(request.prompt).length);
  });

  test("stops at stop strings", async () => {
    const free = { ...request, max_tokens: 40, ...extra({ ignore_eos: true }) };
    const text = (await client.completions.create(free)).choices[0]?.text as string;
    const stop = text.slice(10, 14);
    const answer = await client.completions.create({ ...free, stop: [stop] });
    expect(answer.choices[0]).toMatchObject({ finish_reason: "stop", stop_reason: stop, text: text.slice(0, text.indexOf(stop)) });
  });
});

describe("chat completions", () => {
  const request = { model: "toy", messages, max_tokens: 10, seed: 2 };

  test("answers a conversation", async () => {
    const answer = await client.chat.completions.create({ ...request, n: 2, logprobs: true, top_logprobs: 2 });
    expect(answer).toMatchObject({ object: "chat.completion", model: "toy" });
    expect(answer.choices.map((choice) => choice.index)).toEqual([0, 1]);
    const [choice] = answer.choices;
    expect(choice?.message).toMatchObject({ role: "assistant", refusal: null });
    const content = choice?.logprobs?.content ?? [];
    expect(content.length).toBeGreaterThan(0);
    expect(content[0]?.top_logprobs.length).toBe(2);
    expect(answer.usage?.completion_tokens).toBeGreaterThanOrEqual(2);
  });

  test("streams a role, the text, a finish chunk and usage", async () => {
    const whole = await client.chat.completions.create(request);
    const stream = await client.chat.completions.create({ ...request, stream: true, stream_options: { include_usage: true } });
    const chunks: OpenAI.ChatCompletionChunk[] = [];
    for await (const chunk of stream) chunks.push(chunk);
    expect(chunks[0]?.choices[0]?.delta).toEqual({ role: "assistant", content: "" });
    expect(chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join("")).toBe(whole.choices[0]?.message.content);
    expect(chunks.at(-2)?.choices[0]).toMatchObject({ delta: {}, finish_reason: whole.choices[0]?.finish_reason });
    expect(chunks.at(-1)).toMatchObject({ choices: [], usage: whole.usage });
    expect(new Set(chunks.map((chunk) => `${chunk.id} ${chunk.object} ${chunk.created}`)).size).toBe(1);
  });

  test("is a stream of unnamed frames that ends in [DONE]", async () => {
    const response = await post("/v1/chat/completions", { ...request, stream: true }, { "x-request-id": "mine-1" });
    expect(response.headers.get("content-type")).toContain("text/event-stream");
    expect(response.headers.get("cache-control")).toBe("no-cache");
    expect(response.headers.get("x-request-id")).toBe("mine-1");
    const frames = (await response.text()).split("\n\n");
    expect(frames.at(-1)).toBe("");
    expect(frames.at(-2)).toBe("data: [DONE]");
    for (const frame of frames.slice(0, -2)) {
      expect(frame.startsWith("data: {")).toBe(true);
      expect(Array.isArray(JSON.parse(frame.slice(6)).choices)).toBe(true);
    }
  });

  test("joins text parts and accepts parameters that ask for nothing", async () => {
    const plain = await client.chat.completions.create(request);
    const answer = await client.chat.completions.create({
      ...request,
      messages: [
        {
          role: "user",
          content: [
            { type: "text", text: "the quick" },
            { type: "text", text: " fox" },
          ],
        },
      ],
      frequency_penalty: 0,
      presence_penalty: null,
      logit_bias: {},
      response_format: { type: "text" },
      tools: [],
      stop: null,
      user: "someone",
    });
    expect(answer.choices[0]?.message.content).toBe(plain.choices[0]?.message.content);
  });
});

describe("errors", () => {
  test.each([
    { path: "/v1/completions", body: { prompt: "x", max_tokens: 999 }, status: 400, code: "context_length_exceeded", param: "prompt" },
    { path: "/v1/chat/completions", body: { messages, max_tokens: 999 }, status: 400, code: "context_length_exceeded", param: "messages" },
    { path: "/v1/completions", body: { prompt: new Array(300).fill(5) }, status: 400, code: "context_length_exceeded", param: "prompt" },
    { path: "/v1/completions", body: { prompt: [9999] }, status: 400, code: "invalid_request", param: "prompt" },
    {
      path: "/v1/completions",
      body: { prompt: "x", frequency_penalty: 0.5 },
      status: 400,
      code: "unsupported_parameter",
      param: "frequency_penalty",
    },
    {
      path: "/v1/chat/completions",
      body: { messages, tools: [{ type: "function" }] },
      status: 400,
      code: "unsupported_parameter",
      param: "tools",
    },
    {
      path: "/v1/chat/completions",
      body: { messages, response_format: { type: "json_object" } },
      status: 400,
      code: "unsupported_parameter",
      param: "response_format",
    },
    { path: "/v1/completions", body: { prompt: "x", beam_width: 3 }, status: 400, code: "unknown_parameter", param: "beam_width" },
    { path: "/v1/completions", body: { prompt: "x", temperature: -1 }, status: 400, code: "invalid_value", param: "temperature" },
    {
      path: "/v1/completions",
      body: { prompt: "x", stream_options: { include_usage: "yes" } },
      status: 400,
      code: "invalid_value",
      param: "stream_options.include_usage",
    },
    { path: "/v1/completions", body: {}, status: 400, code: "invalid_value", param: "prompt" },
    { path: "/v1/chat/completions", body: { messages, top_logprobs: 2 }, status: 400, code: "invalid_value", param: "top_logprobs" },
    { path: "/v1/chat/completions", body: { messages: [] }, status: 400, code: "invalid_value", param: "messages" },
    {
      path: "/v1/chat/completions",
      body: { messages: [{ role: "user", content: [{ type: "image_url", image_url: {} }] }] },
      status: 400,
      code: "invalid_value",
      param: "messages.0.content",
    },
    { path: "/v1/completions", body: '{"prompt": "x"', status: 400, code: "invalid_json", param: null },
    { path: "/v1/completions", body: "", status: 400, code: "invalid_json", param: null },
    { path: "/v1/completions", body: "[]", status: 400, code: "invalid_value", param: null },
    { path: "/v1/embeddings", body: { input: "x" }, status: 404, code: "unknown_url", param: null },
  ])("$path answers $status $code for $param", async ({ path, body, status, code, param }) => {
    const response = await post(path, body);
    const { error } = (await response.json()) as { error: Record<string, unknown> };
    expect({ status: response.status, ...error }).toMatchObject({ status, code, param });
    expect(Object.keys(error).sort()).toEqual(["code", "message", "param", "type"]);
    expect(error.message).toBeTypeOf("string");
    expect(response.headers.get("x-request-id")).toMatch(/^[\w-]+$/);
  });

  test("refuses a body that is not JSON by its type", async () => {
    const response = await post("/v1/completions", "prompt=x", { "content-type": "text/plain" });
    expect(response.status).toBe(415);
    expect(await response.json()).toMatchObject({ error: { type: "invalid_request_error", param: null } });
  });

  test("reach the client as its own classes", async () => {
    const error = await client.completions.create({ model: "toy", prompt: "x", max_tokens: 999 }).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(BadRequestError);
    expect((error as BadRequestError).requestID).toMatch(/^[\w-]+$/);
    expect((error as BadRequestError).message).toContain("the context is 256 tokens");
  });

  test("that come in the middle of a stream are a frame the client raises", async () => {
    const { engine: failing, runner } = await createToyEngine();
    const other = await createServer(failing);
    const address = await other.listen({ port: 0, host: "127.0.0.1" });
    const openai = new OpenAI({ baseURL: `${address}/v1`, apiKey: "none", maxRetries: 0 });
    const stream = await openai.completions.create({
      model: "toy",
      prompt: "x",
      max_tokens: 200,
      stream: true,
      ...extra({ ignore_eos: true }),
    } as OpenAI.CompletionCreateParamsStreaming);
    const error = await (async () => {
      for await (const _ of stream) runner.failNext = new Error("the kernel failed");
    })().catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(APIError);
    expect(failing.stats()).toMatchObject({ running: 0, pagesUsed: 0 });
    await other.close();
  });
});

describe("cancellation", () => {
  test("stops decoding when the client leaves a stream, and when it goes before an answer", async () => {
    const before = engine.stats().generatedTokens;
    const stream = await client.completions.create({
      model: "toy",
      prompt: "x",
      max_tokens: 250,
      stream: true,
      ...extra({ ignore_eos: true }),
    } as OpenAI.CompletionCreateParamsStreaming);
    for await (const _ of stream) break;
    const controller = new AbortController();
    const answer = client.completions.create(
      { model: "toy", prompt: "x", max_tokens: 250, ...extra({ ignore_eos: true }) },
      { signal: controller.signal },
    );
    while (engine.stats().running === 0) await new Promise((resolve) => setImmediate(resolve));
    controller.abort();
    await expect(answer).rejects.toThrow();
    await untilIdle();
    expect(engine.stats()).toMatchObject({ pagesUsed: 0, slotsUsed: 0 });
    expect(engine.stats().generatedTokens - before).toBeLessThan(400);
  });

  test("leaves nothing behind after 60 requests of which half are aborted", async () => {
    const requests = Array.from({ length: 60 }, async (_, i) => {
      const controller = new AbortController();
      const body = { model: "toy", prompt: "the fox ".repeat(1 + (i % 5)), max_tokens: 60, ...extra({ ignore_eos: true }) };
      if (i % 2 === 0) return (await client.completions.create(body)).usage?.completion_tokens;
      const stream = await client.completions.create({ ...body, stream: true } as OpenAI.CompletionCreateParamsStreaming, {
        signal: controller.signal,
      });
      let chunks = 0;
      for await (const _ of stream) if (++chunks > i % 7) controller.abort();
      return null;
    });
    const results = await Promise.allSettled(requests);
    expect(results.filter((result) => result.status === "fulfilled" && result.value === 60).length).toBe(30);
    await untilIdle();
    expect(engine.stats()).toMatchObject({ running: 0, waiting: 0, pagesUsed: 0, slotsUsed: 0 });
  });
});

describe("tokenizer, health and metrics", () => {
  test("encodes and decodes", async () => {
    const ids = engine.tokenizer.encodePrompt("the fox");
    expect(await (await post("/tokenize", { prompt: "the fox" })).json()).toMatchObject({
      tokens: ids,
      count: ids.length,
      max_model_len: 256,
    });
    expect(await (await post("/tokenize", { content: "the fox", add_special: false })).json()).toMatchObject({ tokens: ids.slice(1) });
    expect(await (await post("/detokenize", { tokens: ids })).json()).toEqual({ prompt: "<bos>the fox" });
    expect(await (await fetch(`${origin}/tokenizer_info`)).json()).toMatchObject({
      bos_token: "<bos>",
      eos_token: "<eos>",
      pad_token: "<pad>",
      chat_template: expect.stringContaining("im_start"),
    });
  });

  test("tells what it runs on", async () => {
    expect(await (await fetch(`${origin}/props`)).json()).toMatchObject({
      model: { isa: expect.any(String), isaReason: expect.any(String), weightTypes: { head: "float32" }, expected: null },
      memory: { weights: expect.any(Number) },
      total_slots: expect.any(Number),
      n_ctx: expect.any(Number),
      chat_template: expect.stringContaining("im_start"),
    });
  });

  test("is healthy, and ready until it drains", async () => {
    const { engine: leaving } = await createToyEngine();
    const other = await createServer(leaving);
    expect((await other.inject("/health")).statusCode).toBe(200);
    expect((await other.inject("/ready")).json()).toEqual({ ready: true, running: 0, waiting: 0 });
    await leaving.drain();
    expect((await other.inject("/ready")).statusCode).toBe(503);
    const refused = await other.inject({ method: "POST", url: "/v1/completions", payload: { prompt: "x" } });
    expect(refused.statusCode).toBe(503);
    expect(refused.headers).toMatchObject({ "retry-after": "5", "retry-after-ms": "5000" });
    expect((await other.inject("/health")).statusCode).toBe(200);
  });

  test("counts and times requests under its own names and vLLM's", async () => {
    await client.completions.create({ model: "toy", prompt: "x", max_tokens: 5, ...extra({ ignore_eos: true }) });
    const text = await (await fetch(`${origin}/metrics`)).text();
    for (const name of ["vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc", "zaya_requests_running"]) {
      expect(text).toContain(`${name}{model_name="toy"} 0`);
    }
    expect(text).toContain('vllm:cache_config_info{block_size="32",num_gpu_blocks="64",model_name="toy"} 1');
    expect(text).toMatch(/vllm:time_to_first_token_seconds_bucket\{le="0.001",model_name="toy"\} \d+/);
    expect(text).toMatch(/zaya_requests_total\{finished_reason="length",model_name="toy"\} [1-9]/);
    expect(text).toMatch(/vllm:generation_tokens_total\{model_name="toy"\} [1-9]/);
  });

  test("describes its routes", async () => {
    const { paths } = (await (await fetch(`${origin}/openapi.json`)).json()) as { paths: object };
    expect(Object.keys(paths)).toEqual(expect.arrayContaining(["/v1/completions", "/v1/chat/completions", "/tokenize", "/metrics"]));
  });

  test("lets other origins' pages in only where told", async () => {
    expect(
      (await server.inject({ url: "/v1/models", headers: { origin: "http://elsewhere" } })).headers["access-control-allow-origin"],
    ).toBeUndefined();
    const open = await createServer(engine, { corsOrigin: "http://elsewhere" });
    const preflight = await open.inject({
      method: "OPTIONS",
      url: "/v1/completions",
      headers: { origin: "http://elsewhere", "access-control-request-headers": "content-type" },
    });
    expect(preflight.statusCode).toBe(204);
    expect(preflight.headers).toMatchObject({
      "access-control-allow-origin": "http://elsewhere",
      "access-control-allow-headers": "content-type",
    });
  });
});

test("lives inside an existing HTTP server", async () => {
  const handler = await createHandler(engine);
  const site = createHttpServer((request, response) => {
    if (request.url?.startsWith("/v1/")) handler(request, response);
    else response.end("my site");
  });
  await new Promise<void>((resolve) => site.listen(0, "127.0.0.1", resolve));
  const { port } = site.address() as AddressInfo;
  expect(await (await fetch(`http://127.0.0.1:${port}/`)).text()).toBe("my site");
  const openai = new OpenAI({ baseURL: `http://127.0.0.1:${port}/v1`, apiKey: "none" });
  const stream = await openai.chat.completions.create({ model: "toy", messages, max_tokens: 5, stream: true });
  let chunks = 0;
  for await (const _ of stream) chunks++;
  expect(chunks).toBeGreaterThan(1);
  site.closeAllConnections();
  await new Promise((resolve) => site.close(resolve));
});
