import type { FastifyBaseLogger, FastifyInstance } from "fastify";
import OpenAI from "openai";
import { afterAll, beforeAll } from "vitest";
import type { Engine } from "../engine.js";
import { createToyEngine } from "../testing.js";
import { createServer } from "./server.js";

/** A server on this machine over a toy engine, and OpenAI's client of it. */
export interface ToyServer {
  readonly engine: Engine;
  readonly server: FastifyInstance;
  readonly origin: string;
  readonly client: OpenAI;
  /** Posts JSON, or a text as it is. */
  post(path: string, body: unknown, headers?: Record<string, string>): Promise<Response>;
  /** Resolves when the engine has nothing to do. */
  untilIdle(): Promise<void>;
}

/** A server for the tests of one file: listens before the first of them and closes after the last. */
export function toyServer(): ToyServer {
  const toy = {} as { -readonly [K in keyof ToyServer]: ToyServer[K] };
  beforeAll(async () => {
    toy.engine = (await createToyEngine()).engine;
    toy.server = await createServer(toy.engine);
    toy.origin = await toy.server.listen({ port: 0, host: "127.0.0.1" });
    toy.client = new OpenAI({ baseURL: `${toy.origin}/v1`, apiKey: "none", maxRetries: 0 });
  });
  afterAll(async () => {
    await toy.server.close();
    await toy.engine[Symbol.asyncDispose]();
  });
  toy.post = (path, body, headers = {}) =>
    fetch(`${toy.origin}${path}`, {
      method: "POST",
      headers: { "content-type": "application/json", ...headers },
      body: typeof body === "string" ? body : JSON.stringify(body),
    });
  toy.untilIdle = async () => {
    while (toy.engine.stats().running > 0 || toy.engine.stats().waiting > 0) await new Promise((resolve) => setImmediate(resolve));
  };
  return toy;
}

/** A logger that keeps the errors it is told. */
export function errorLogger(): FastifyBaseLogger & { readonly errors: unknown[] } {
  const nothing = () => {};
  const errors: unknown[] = [];
  const error = (given: unknown) => void errors.push(given);
  const logger = {
    level: "error",
    errors,
    error,
    fatal: error,
    warn: nothing,
    info: nothing,
    debug: nothing,
    trace: nothing,
    silent: nothing,
  };
  return Object.assign(logger, { child: () => logger }) as unknown as FastifyBaseLogger & { readonly errors: unknown[] };
}

/** Parameters beyond OpenAI's, which its client passes on but does not type. */
export const extra = (fields: object) => fields as object;
