import { randomUUID } from "node:crypto";
import { once } from "node:events";
import type { IncomingMessage, ServerResponse } from "node:http";
import swagger from "@fastify/swagger";
import { ZayaError } from "@zaya/kernels";
import { type FastifyBaseLogger, type FastifyInstance, type FastifyReply, type FastifyRequest, fastify, type HTTPMethods } from "fastify";
import { jsonSchemaTransform, serializerCompiler, validatorCompiler, type ZodTypeProvider } from "fastify-type-provider-zod";
import { z } from "zod";
import type { Engine } from "../engine.js";
import { expectOptions } from "../expect_options.js";
import { expectHost, expectKey } from "./access.js";
import { checkModel } from "./answers.js";
import { createChatCompletion } from "./chat.js";
import { createCompletion } from "./completions.js";
import { answerClientError, errorReply, HttpError, isFault } from "./errors.js";
import { createMetrics } from "./metrics.js";
import { pagePolicy, readPage } from "./page.js";
import { acceptBody, ChatBody, CompletionBody, DetokenizeBody, TokenizeBody } from "./schemas.js";
import { tokenText } from "./token_text.js";

/** All that follows is the model: a name such as ORG/MODEL has a slash, which not every client escapes. */
const modelPath = "/v1/models/*";

export interface ServerOptions {
  /** Where requests are logged (pino or alike). Default: nowhere. */
  readonly logger?: FastifyBaseLogger | undefined;
  /** Origin whose pages may call the server ("*": any). Default: none but the server's own page. */
  readonly corsOrigin?: string | undefined;
  /** What requests below /v1 have to send as `Authorization: Bearer`. Default: they need nothing. */
  readonly apiKey?: string | undefined;
  /** Names that a server on a loopback address may be called by, besides localhost, 127.* and [::1]. Requests to other names get 403. Default: none. */
  readonly allowedHosts?: readonly string[] | undefined;
  /** Whether the playground page is served at "/". Default true. */
  readonly page?: boolean | undefined;
}

const optionNames: Readonly<Record<keyof ServerOptions, true>> = {
  logger: true,
  corsOrigin: true,
  apiKey: true,
  allowedHosts: true,
  page: true,
};

/**
 * Makes an OpenAI-compatible server over an engine: models, completions, chat completions, tokenizer, health, metrics and the playground page. Call
 * `listen` on it. Closing it leaves the engine open. Throws INVALID_ARGUMENT for options that there are none of.
 *
 * @example
 * const server = await createServer(await createEngine("./checkpoint"));
 * await server.listen({ port: 8000 });
 */
export async function createServer(engine: Engine, options: ServerOptions = {}): Promise<FastifyInstance> {
  expectOptions(options, optionNames);
  const { logger, corsOrigin, apiKey, allowedHosts = [], page = true } = options;
  if (apiKey?.trim() === "") throw new ZayaError("INVALID_ARGUMENT", "apiKey is empty; leave it out to serve without a key");
  const cors: Record<string, string> =
    corsOrigin === undefined
      ? {}
      : {
          "access-control-allow-origin": corsOrigin,
          "access-control-expose-headers": "x-request-id, retry-after, retry-after-ms",
          vary: "origin",
        };
  const answerError = (error: unknown, request: FastifyRequest, reply: FastifyReply) => {
    const { status, headers, body } = errorReply(error);
    if (isFault(error)) request.log.error(error);
    return reply.status(status).headers(cors).headers(headers).header("x-request-id", request.id).send(body);
  };
  const app = fastify({
    ...(logger ? { loggerInstance: logger } : {}),
    bodyLimit: 8 * 1024 * 1024,
    requestTimeout: 60_000,
    forceCloseConnections: true,
    return503OnClosing: false, // routes answer in the shape of all errors
    frameworkErrors: answerError,
    clientErrorHandler: answerClientError,
    genReqId: ({ headers: { "x-request-id": given } }) =>
      typeof given === "string" && /^[\w.:-]{1,128}$/.test(given) ? given : randomUUID(),
  }).withTypeProvider<ZodTypeProvider>();
  app.removeContentTypeParser("text/plain");
  app.setValidatorCompiler(validatorCompiler);
  app.setSerializerCompiler(serializerCompiler);
  app.setErrorHandler(answerError);
  app.setNotFoundHandler((request) => {
    throw new HttpError(404, "unknown_url", `no such route: ${request.method} ${request.url.split("?")[0]}`);
  });
  app.addHook("onRequest", async (request, reply) => {
    reply.header("x-request-id", request.id);
    expectHost(app.server.address(), request.headers.host, allowedHosts);
    reply.headers(cors);
    if (corsOrigin === undefined || request.method !== "OPTIONS") return;
    reply.headers({
      "access-control-allow-methods": "GET, POST",
      "access-control-allow-headers": request.headers["access-control-request-headers"] ?? "content-type",
    });
    return reply.status(204).send();
  });
  if (apiKey !== undefined) {
    const check = expectKey(apiKey);
    app.addHook("onRequest", async ({ routeOptions, headers }) => {
      if (routeOptions.url?.startsWith("/v1/")) check(headers.authorization); // the route, since a path has many spellings
    });
  }
  app.addHook("onRequest", async ({ headers: { "content-encoding": encoding = "identity" } }) => {
    if (encoding.toLowerCase() !== "identity")
      throw new HttpError(
        415,
        "unsupported_encoding",
        `content-encoding ${encoding.slice(0, 100)} is not taken; send the body as it is, without content-encoding`,
      );
  });
  const methods = new Map<string, Set<HTTPMethods>>();
  app.addHook("onRoute", ({ url, method }) => {
    const known = methods.get(url) ?? new Set();
    methods.set(url, known);
    for (const each of [method].flat()) known.add(each);
  });
  const open = new Set<ServerResponse>();
  app.addHook("onRequest", async (_, { raw }) => {
    open.add(raw);
    raw.once("close", () => open.delete(raw));
  });
  // Closing cuts connections; answers that are on their way get a second to reach the client.
  app.addHook("preClose", async () => {
    const signal = AbortSignal.timeout(1000);
    const received = [...open].filter(({ req }) => req.complete);
    await Promise.all(received.map((raw) => once(raw, "close", { signal }).catch(() => {})));
  });
  app.addHook("preValidation", async (request) => {
    if (request.method === "POST") request.body = acceptBody(request.body);
  });
  app.addHook("onSend", async (request, reply) => {
    if (reply.statusCode === 413) await discardBody(request.raw);
    reply.header("openai-processing-ms", Math.round(reply.elapsedTime));
  });
  await app.register(swagger, {
    openapi: { info: { title: "zaya-serve", version: "1" } },
    // Fastify's wildcard has no name.
    transform: (route) =>
      jsonSchemaTransform(
        route.url === modelPath ? { ...route, url: "/v1/models/:model", schema: { params: z.object({ model: z.string() }) } } : route,
      ),
  });
  const files = page ? await readPage() : [];
  await app.register(async (routes) => addRoutes(routes, engine));
  for (const file of files) {
    app.get(file.path, { schema: { hide: true } }, (_, reply) =>
      reply
        .headers({
          "content-type": file.type,
          "content-security-policy": pagePolicy,
          "cache-control": file.path === "/" ? "no-cache" : "max-age=31536000, immutable",
        })
        .send(file.body),
    );
  }
  for (const [url, known] of [...methods]) refuseOtherMethods(app, url, [...known]);
  await app.ready();
  return app;
}

/** Answers a known path with 405 where its method is none of its own: a path that is there is not unknown. */
function refuseOtherMethods(app: FastifyInstance, url: string, known: readonly HTTPMethods[]): void {
  const method = app.supportedMethods.filter((each) => !known.includes(each as HTTPMethods)) as HTTPMethods[];
  const use = known.filter((each) => each !== "HEAD").join(" or ");
  // In a hook, as the body of such a request is nobody's business.
  const onRequest = async (request: FastifyRequest, reply: FastifyReply) => {
    reply.header("allow", known.join(", "));
    throw new HttpError(405, "method_not_allowed", `${request.method} is not for ${url}; use ${use}`);
  };
  app.route({ method, url, schema: { hide: true }, onRequest, handler: () => {} });
}

/** The same as a handler for an existing HTTP server. @example createServer((request, response) => handler(request, response)) */
export async function createHandler(
  engine: Engine,
  options?: ServerOptions,
): Promise<(request: IncomingMessage, response: ServerResponse) => void> {
  const app = await createServer(engine, options);
  return (request, response) => app.routing(request, response);
}

/** Lets the rest of a body that is too large come, within bounds: a client that is still writing when the connection closes does not see the answer. */
async function discardBody(request: IncomingMessage): Promise<void> {
  if (request.complete) return;
  const enough = new AbortController();
  const timer = setTimeout(() => enough.abort(), 5000);
  let left = 64 * 1024 * 1024;
  const count = (chunk: Buffer) => {
    left -= chunk.length;
    if (left < 0) enough.abort();
  };
  request.on("data", count).resume();
  await once(request, "end", { signal: enough.signal }).catch(() => {});
  request.off("data", count);
  clearTimeout(timer);
}

function addRoutes(plain: FastifyInstance, engine: Engine): void {
  const app = plain.withTypeProvider<ZodTypeProvider>();
  const { tokenizer } = engine;
  const metrics = createMetrics(engine);
  const { id, created, contextTokens } = engine.model;
  const model = { id, object: "model", created, owned_by: "zaya", max_model_len: contextTokens };

  app.get("/v1/models", async () => ({ object: "list", data: [model] }));
  app.get(modelPath, { schema: { params: z.object({ "*": z.string() }) } }, async ({ params }) => {
    checkModel(engine, params["*"]);
    return model;
  });
  app.post("/v1/completions", { schema: { body: CompletionBody } }, ({ body }, reply) => createCompletion(engine, metrics, body, reply));
  app.post("/v1/chat/completions", { schema: { body: ChatBody } }, ({ body }, reply) => createChatCompletion(engine, metrics, body, reply));

  app.post("/tokenize", { schema: { body: TokenizeBody } }, async ({ body }) => {
    checkModel(engine, body.model);
    const text = body.prompt ?? body.content ?? "";
    const tokens =
      (body.add_special_tokens ?? body.add_special ?? true)
        ? tokenizer.encodePrompt(text)
        : tokenizer.encode(text, { addSpecialTokens: false });
    return { tokens, token_strs: tokens.map((token) => tokenText(tokenizer, token)), count: tokens.length, max_model_len: contextTokens };
  });
  app.post("/detokenize", { schema: { body: DetokenizeBody } }, async ({ body }) => {
    checkModel(engine, body.model);
    const { vocabSize } = engine.model;
    const wrong = body.tokens.find((id) => id >= vocabSize);
    if (wrong !== undefined)
      throw new HttpError(400, "invalid_value", `tokens: token ${wrong} is outside the vocabulary of ${vocabSize}`, "tokens");
    return { prompt: tokenizer.decode(body.tokens, { skipSpecialTokens: false }) };
  });
  app.get("/tokenizer_info", async () => ({
    tokenizer_class: "PreTrainedTokenizerFast",
    bos_token: tokenizer.bosToken,
    eos_token: tokenizer.eosToken,
    pad_token: tokenizer.padToken,
    chat_template: tokenizer.chatTemplate,
    vocab_size: tokenizer.vocabSize,
    model_max_length: contextTokens,
  }));

  app.get("/props", async () => {
    const { memory, slotsTotal } = engine.stats();
    return { model: engine.model, memory, total_slots: slotsTotal, n_ctx: contextTokens, chat_template: tokenizer.chatTemplate };
  });
  app.get("/health", async () => ({ status: "ok" }));
  app.get("/ready", async (_, reply) => {
    const { draining, full, running, waiting } = engine.stats();
    const ready = !draining && !full;
    return reply.status(ready ? 200 : 503).send({ ready, running, waiting });
  });
  app.get("/metrics", async (_, reply) =>
    reply.header("content-type", metrics.registry.contentType).send(await metrics.registry.metrics()),
  );
  app.get("/openapi.json", { schema: { hide: true } }, async () => plain.swagger());
}
