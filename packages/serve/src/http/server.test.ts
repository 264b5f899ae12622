import { createServer as createHttpServer } from "node:http";
import type { AddressInfo } from "node:net";
import OpenAI, { NotFoundError } from "openai";
import { describe, expect, test } from "vitest";
import { createToyEngine } from "../testing.js";
import { createHandler, createServer, type ServerOptions } from "./server.js";
import { extra, toyServer } from "./testing.js";

const toy = toyServer();

describe("models", () => {
  test("lists the model and gives it by name", async () => {
    const models = await toy.client.models.list();
    expect(models.data.map((model) => [model.id, model.object])).toEqual([["toy", "model"]]);
    expect(await toy.client.models.retrieve("toy")).toMatchObject({ id: "toy", object: "model", created: 1_700_000_000 });
  });

  test("gives a model of the hub by its name, escaped or not", async () => {
    const { engine } = await createToyEngine({}, 256, "Zyphra/ZAYA1-8B");
    const server = await createServer(engine);
    for (const url of ["/v1/models/Zyphra/ZAYA1-8B", "/v1/models/Zyphra%2FZAYA1-8B"])
      expect((await server.inject(url)).json()).toMatchObject({ id: "Zyphra/ZAYA1-8B" });
    for (const url of ["/v1/models/Zyphra", `/v1/models/${"x".repeat(500)}`])
      expect((await server.inject(url)).json()).toMatchObject({ error: { code: "model_not_found" } });
  });

  test("answers 404 model_not_found for another", async () => {
    await expect(toy.client.models.retrieve("gpt-4")).rejects.toThrow(NotFoundError);
    await expect(toy.client.completions.create({ model: "gpt-4", prompt: "x" })).rejects.toMatchObject({
      status: 404,
      code: "model_not_found",
      param: "model",
    });
  });
});

describe("tokenizer, health and metrics", () => {
  test("encodes and decodes", async () => {
    const ids = toy.engine.tokenizer.encodePrompt("the fox");
    expect(await (await toy.post("/tokenize", { prompt: "the fox" })).json()).toMatchObject({
      tokens: ids,
      count: ids.length,
      max_model_len: 256,
    });
    expect(await (await toy.post("/tokenize", { content: "the fox", add_special: false })).json()).toMatchObject({ tokens: ids.slice(1) });
    expect(await (await toy.post("/detokenize", { tokens: ids })).json()).toEqual({ prompt: "<bos>the fox" });
    expect(await (await fetch(`${toy.origin}/tokenizer_info`)).json()).toMatchObject({
      bos_token: "<bos>",
      eos_token: "<eos>",
      pad_token: "<pad>",
      chat_template: expect.stringContaining("im_start"),
    });
  });

  test("tells what it runs on", async () => {
    expect(await (await fetch(`${toy.origin}/props`)).json()).toMatchObject({
      model: { isa: expect.any(String), isaReason: expect.any(String), products: [], expected: null },
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

  test("is not ready while its queue is full, and says when to ask again", async () => {
    const { engine: busy } = await createToyEngine({ maxSequences: 1 }, 256, "toy", 1);
    const other = await createServer(busy);
    const payload = { prompt: "x", max_tokens: 100, ignore_eos: true, n: 2 };
    const begun = other.inject({ method: "POST", url: "/v1/completions", payload }).then();
    while (!busy.stats().full) await new Promise((resolve) => setImmediate(resolve));
    const ready = await other.inject("/ready");
    expect([ready.statusCode, ready.json()]).toEqual([503, { ready: false, running: 1, waiting: 1 }]);
    for (const stream of [false, true]) {
      const refused = await other.inject({ method: "POST", url: "/v1/completions", payload: { prompt: "x", stream } });
      expect(refused.statusCode).toBe(429);
      expect(refused.headers).toMatchObject({ "retry-after": "5", "retry-after-ms": "5000" });
      expect(refused.json().error).toEqual({
        message: expect.stringContaining("ask again later"),
        type: "rate_limit_error",
        param: null,
        code: "queue_full",
      });
    }
    expect((await begun).statusCode).toBe(200);
    expect((await other.inject("/ready")).statusCode).toBe(200);
  });

  test("counts and times requests under its own names and vLLM's", async () => {
    await toy.client.completions.create({ model: "toy", prompt: "x", max_tokens: 5, ...extra({ ignore_eos: true }) });
    const text = await (await fetch(`${toy.origin}/metrics`)).text();
    for (const name of ["vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc", "zaya_requests_running"]) {
      expect(text).toContain(`${name}{model_name="toy"} 0`);
    }
    expect(text).toContain('vllm:cache_config_info{block_size="32",num_gpu_blocks="64",model_name="toy"} 1');
    expect(text).toMatch(/vllm:time_to_first_token_seconds_bucket\{le="0.001",model_name="toy"\} \d+/);
    expect(text).toMatch(/zaya_requests_total\{finished_reason="length",model_name="toy"\} [1-9]/);
    expect(text).toMatch(/vllm:generation_tokens_total\{model_name="toy"\} [1-9]/);
  });

  test("describes its routes", async () => {
    const { paths } = (await (await fetch(`${toy.origin}/openapi.json`)).json()) as { paths: Record<string, object> };
    expect(Object.keys(paths)).toEqual(expect.arrayContaining(["/v1/completions", "/v1/chat/completions", "/tokenize", "/metrics"]));
    expect(Object.keys(paths["/v1/completions"] as object)).toEqual(["post"]);
    expect(paths["/v1/completions"]).toMatchObject({
      post: { requestBody: { content: { "application/json": { schema: { required: ["prompt"] } } } } },
    });
    expect(paths["/v1/models/{model}"]).toMatchObject({ get: { parameters: [{ in: "path", name: "model", required: true }] } });
  });

  test("lets other origins' pages in only where told", async () => {
    expect(
      (await toy.server.inject({ url: "/v1/models", headers: { origin: "http://elsewhere" } })).headers["access-control-allow-origin"],
    ).toBeUndefined();
    const open = await createServer(toy.engine, { corsOrigin: "http://elsewhere" });
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

test("refuses an option that there is none of, rather than serve without a key", async () => {
  const misspelt = { apikey: "a-key" } as ServerOptions;
  const refused = { code: "INVALID_ARGUMENT", message: "there is no option apikey" };
  await expect(createServer(toy.engine, misspelt)).rejects.toMatchObject(refused);
  await expect(createHandler(toy.engine, misspelt)).rejects.toMatchObject(refused);
});

test("takes an undefined option as its default", async () => {
  const options: ServerOptions = { logger: undefined, corsOrigin: undefined, apiKey: undefined, allowedHosts: undefined, page: undefined };
  const server = await createServer(toy.engine, options);
  const { statusCode, headers } = await server.inject("/v1/models");
  expect([statusCode, headers["access-control-allow-origin"]]).toEqual([200, undefined]);
});

test.each([
  { method: "GET", path: "/v1/completions", allow: "POST", use: "POST" },
  { method: "PUT", path: "/v1/chat/completions", allow: "POST", use: "POST" },
  { method: "POST", path: "/v1/models", allow: "GET, HEAD", use: "GET" },
  { method: "DELETE", path: "/v1/models/toy", allow: "GET, HEAD", use: "GET" },
  { method: "POST", path: "/health", allow: "GET, HEAD", use: "GET" },
])("answers $method $path with 405 and what to use", async ({ method, path, allow, use }) => {
  const body = method === "GET" ? null : "of any type";
  const response = await fetch(`${toy.origin}${path}`, { method, body, headers: { "content-type": "text/plain" } });
  expect([response.status, response.headers.get("allow")]).toEqual([405, allow]);
  const { error } = (await response.json()) as { error: { code: string; message: string } };
  expect(error).toMatchObject({ code: "method_not_allowed", message: expect.stringMatching(new RegExp(`^${method} .*; use ${use}$`)) });
});

test("asks for the key before it says which methods there are", async () => {
  const server = await createServer(toy.engine, { apiKey: "a-key" });
  expect((await server.inject("/v1/completions")).statusCode).toBe(401);
  expect((await server.inject({ url: "/v1/completions", headers: { authorization: "Bearer a-key" } })).statusCode).toBe(405);
});

test("waits a minute for a request to come", () => {
  expect(toy.server.server.requestTimeout).toBe(60_000);
});

test("routes answer in the shape of all errors when it is closed", async () => {
  const other = await createServer(toy.engine);
  await other.close();
  await using site = createHttpServer((request, response) => other.routing(request, response));
  await new Promise<void>((resolve) => site.listen(0, "127.0.0.1", resolve));
  const response = await fetch(`http://127.0.0.1:${(site.address() as AddressInfo).port}/nowhere`);
  expect(await response.json()).toMatchObject({ error: { code: "unknown_url" } });
});

test("an error before any route lets other origins' pages read it", async () => {
  const open = await createServer(toy.engine, { corsOrigin: "http://elsewhere" });
  const { statusCode, headers } = await open.inject("/v1/models/%E0%A4");
  expect([statusCode, headers["access-control-allow-origin"]]).toEqual([400, "http://elsewhere"]);
});

test("lives inside an existing HTTP server", async () => {
  const handler = await createHandler(toy.engine);
  const site = createHttpServer((request, response) => {
    if (request.url?.startsWith("/v1/")) handler(request, response);
    else response.end("my site");
  });
  await new Promise<void>((resolve) => site.listen(0, "127.0.0.1", resolve));
  const { port } = site.address() as AddressInfo;
  expect(await (await fetch(`http://127.0.0.1:${port}/`)).text()).toBe("my site");
  const openai = new OpenAI({ baseURL: `http://127.0.0.1:${port}/v1`, apiKey: "none" });
  const stream = await openai.chat.completions.create({
    model: "toy",
    messages: [{ role: "user", content: "the quick fox" }],
    max_tokens: 5,
    stream: true,
  });
  let chunks = 0;
  for await (const _ of stream) chunks++;
  expect(chunks).toBeGreaterThan(1);
  site.closeAllConnections();
  await new Promise((resolve) => site.close(resolve));
});
