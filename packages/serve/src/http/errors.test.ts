import { once } from "node:events";
import { get, type IncomingMessage, request } from "node:http";
import { json } from "node:stream/consumers";
import OpenAI, { APIError, BadRequestError } from "openai";
import { expect, test } from "vitest";
import { createToyEngine } from "../testing.js";
import { createServer } from "./server.js";
import { errorLogger, extra, toyServer } from "./testing.js";

const toy = toyServer();
const messages = [{ role: "user" as const, content: "the quick fox" }];

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
  { path: "/v1/completions", body: { prompt: ["a", "b", "c", "d", "e"], n: 128 }, status: 400, code: "invalid_value", param: "prompt" },
  { path: "/v1/completions", body: { prompt: "x".repeat(9 * 2 ** 20) }, status: 413, code: "body_too_large", param: null },
  { path: "/tokenize", body: { prompt: "x".repeat(2 ** 17 + 1) }, status: 400, code: "invalid_value", param: "prompt" },
  { path: "/detokenize", body: { tokens: new Array(2 ** 20 + 1).fill(5) }, status: 400, code: "invalid_value", param: "tokens" },
  { path: "/detokenize", body: { tokens: [5, 9999] }, status: 400, code: "invalid_value", param: "tokens" },
  { path: "/tokenize", body: { prompt: "x", model: "gpt-4" }, status: 404, code: "model_not_found", param: "model" },
  { path: "/detokenize", body: { tokens: [5], model: "gpt-4" }, status: 404, code: "model_not_found", param: "model" },
  { path: "/v1/completions", body: {}, status: 400, code: "invalid_value", param: "prompt" },
  { path: "/v1/chat/completions", body: { messages, top_logprobs: 2 }, status: 400, code: "invalid_value", param: "top_logprobs" },
  {
    path: "/v1/chat/completions",
    body: { messages: new Array(257).fill({ role: "user", content: "" }) },
    status: 400,
    code: "context_length_exceeded",
    param: "messages",
  },
  {
    path: "/v1/chat/completions",
    body: { messages: new Array(2 ** 15 + 1).fill({ role: "user", content: "" }) },
    status: 400,
    code: "invalid_value",
    param: "messages",
  },
  { path: "/v1/chat/completions", body: { messages: [] }, status: 400, code: "invalid_value", param: "messages" },
  {
    path: "/v1/chat/completions",
    body: { messages: [{ role: "user", content: [{ type: "image_url", image_url: {} }] }] },
    status: 400,
    code: "invalid_value",
    param: "messages.0.content",
  },
  ...["user", "system", "developer", "tool"].flatMap((role) =>
    [{ role }, { role, content: null }, { role, content: [{ type: "refusal", refusal: "no" }] }].map((bad) => ({
      path: "/v1/chat/completions",
      body: { messages: [...messages, bad] },
      status: 400,
      code: "invalid_value",
      param: "messages.1.content",
    })),
  ),
  { path: "/v1/chat/completions", body: { messages: [{ role: "poet" }] }, status: 400, code: "invalid_value", param: "messages.0.role" },
  {
    path: "/v1/completions",
    body: { prompt: "x", stop_token_ids: new Array(1025).fill(5) },
    status: 400,
    code: "invalid_value",
    param: "stop_token_ids",
  },
  { path: "/v1/completions", body: { prompt: "x", seed: 1.5 }, status: 400, code: "invalid_value", param: "seed" },
  {
    path: "/v1/chat/completions",
    body: { messages, chat_template_kwargs: { add_generation_prompt: false } },
    status: 400,
    code: "invalid_value",
    param: "chat_template_kwargs",
  },
  {
    path: "/v1/chat/completions",
    body: `{"messages":[{"role":"user","content":"x"}],"tools":${"[".repeat(100_000)}${"]".repeat(100_000)}}`,
    status: 400,
    code: "unsupported_parameter",
    param: "tools",
  },
  {
    path: "/v1/completions",
    body: { prompt: "x", ...Object.fromEntries(Array.from({ length: 1000 }, (_, i) => [`unknown${i}`, 1])) },
    status: 400,
    code: "unknown_parameter",
    param: "unknown0",
  },
  { path: "/v1/completions", body: '{"prompt": "x"', status: 400, code: "invalid_json", param: null },
  { path: "/v1/completions", body: "", status: 400, code: "invalid_json", param: null },
  { path: "/v1/completions", body: "[]", status: 400, code: "invalid_value", param: null },
  { path: "/v1/embeddings", body: { input: "x" }, status: 404, code: "unknown_url", param: null },
])("$path answers $status $code for $param", async ({ path, body, status, code, param }) => {
  const response = await toy.post(path, body);
  const { error } = (await response.json()) as { error: Record<string, unknown> };
  expect({ status: response.status, ...error }).toMatchObject({ status, code, param });
  expect(Object.keys(error).sort()).toEqual(["code", "message", "param", "type"]);
  expect(error.message).toBeTypeOf("string");
  expect((error.message as string).length).toBeLessThan(300);
  expect(response.headers.get("x-request-id")).toMatch(/^[\w-]+$/);
});

test("a client that writes all of a body that is too large before it reads sees the answer", async () => {
  const { port } = new URL(toy.origin);
  const [headers, chunk] = [{ "content-type": "application/json" }, Buffer.alloc(2 ** 20, "x")];
  const sent = request({ port, path: "/v1/completions", method: "POST", headers });
  const answered = once(sent, "response");
  for (let i = 0; i < 16; i++) if (!sent.write(chunk)) await once(sent, "drain");
  sent.end();
  const [response] = (await answered) as [IncomingMessage];
  expect(response.statusCode).toBe(413);
  expect(await json(response)).toMatchObject({ error: { code: "body_too_large" } });
});

test("refuses a body that is not JSON by its type", async () => {
  const response = await toy.post("/v1/completions", "prompt=x", { "content-type": "text/plain" });
  expect(response.status).toBe(415);
  const message = expect.stringContaining("`content-type: application/json`");
  expect(await response.json()).toEqual({ error: { message, type: "invalid_request_error", param: null, code: "invalid_media_type" } });
});

test("refuses a body that is encoded by the name of the encoding", async () => {
  for (const encoding of ["gzip", "br", "gzip, identity"]) {
    const response = await toy.post("/v1/completions", { prompt: "x" }, { "content-encoding": encoding });
    expect(response.status).toBe(415);
    expect(await response.json()).toMatchObject({
      error: {
        code: "unsupported_encoding",
        message: `content-encoding ${encoding} is not taken; send the body as it is, without content-encoding`,
      },
    });
  }
  expect((await toy.post("/v1/completions", { prompt: "x" }, { "content-encoding": "identity" })).status).toBe(200);
});

test("errors reach the client as its own classes", async () => {
  const error = await toy.client.completions.create({ model: "toy", prompt: "x", max_tokens: 999 }).catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(BadRequestError);
  expect((error as BadRequestError).requestID).toMatch(/^[\w-]+$/);
  expect((error as BadRequestError).message).toContain("the context is 256 tokens");
});

test.each([
  { what: "a bad escape", path: "/v1/models/%E0%A4", status: 400, code: "bad_url" },
  {
    what: "headers that are too large",
    path: "/v1/models",
    headers: { long: "x".repeat(20_000) },
    status: 431,
    code: "hpe_header_overflow",
  },
])("answers $what with $status in the shape of all errors", async ({ path, headers = {}, status, code }) => {
  const { port } = new URL(toy.origin);
  const response = await new Promise<IncomingMessage>((resolve, reject) => get({ port, path, headers }, resolve).on("error", reject));
  const { error } = (await json(response)) as { error: Record<string, unknown> };
  expect(response.statusCode).toBe(status);
  expect(error).toEqual({ message: expect.any(String), type: "invalid_request_error", param: null, code });
});

test("errors in the middle of a stream are a frame the client raises, and are logged and counted", async () => {
  const { engine: failing, runner } = await createToyEngine();
  const logger = errorLogger();
  const other = await createServer(failing, { logger });
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
  expect(logger.errors).toEqual([expect.objectContaining({ message: "the kernel failed" })]);
  expect((await other.inject("/metrics")).body).toContain('zaya_requests_total{finished_reason="error",model_name="toy"} 1');
  await other.close();
});
