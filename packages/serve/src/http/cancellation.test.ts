import type OpenAI from "openai";
import { expect, test } from "vitest";
import { createToyEngine } from "../testing.js";
import { createServer } from "./server.js";
import { errorLogger, extra, toyServer } from "./testing.js";

const toy = toyServer();

test("stops decoding when the client leaves a stream, and when it goes before an answer", async () => {
  const before = toy.engine.stats().generatedTokens;
  const stream = await toy.client.completions.create({
    model: "toy",
    prompt: "x",
    max_tokens: 250,
    stream: true,
    ...extra({ ignore_eos: true }),
  } as OpenAI.CompletionCreateParamsStreaming);
  for await (const _ of stream) break;
  const controller = new AbortController();
  const answer = toy.client.completions.create(
    { model: "toy", prompt: "x", max_tokens: 250, ...extra({ ignore_eos: true }) },
    { signal: controller.signal },
  );
  while (toy.engine.stats().running === 0) await new Promise((resolve) => setImmediate(resolve));
  controller.abort();
  await expect(answer).rejects.toThrow();
  await toy.untilIdle();
  expect(toy.engine.stats()).toMatchObject({ pagesUsed: 0, slotsUsed: 0 });
  expect(toy.engine.stats().generatedTokens - before).toBeLessThan(400);
});

test("counts a client that leaves as one, and logs no error", async () => {
  const { engine } = await createToyEngine();
  const logger = errorLogger();
  const server = await createServer(engine, { logger });
  const address = await server.listen({ port: 0, host: "127.0.0.1" });
  const controller = new AbortController();
  const body = JSON.stringify({ prompt: "x", max_tokens: 250, ignore_eos: true });
  const answer = fetch(`${address}/v1/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body,
    signal: controller.signal,
  });
  while (engine.stats().running === 0) await new Promise((resolve) => setImmediate(resolve));
  controller.abort();
  await expect(answer).rejects.toThrow();
  const counted = 'zaya_requests_total{finished_reason="abort",model_name="toy"} 1';
  while (!(await server.inject("/metrics")).body.includes(counted)) await new Promise((resolve) => setImmediate(resolve));
  await server.close();
  expect(logger.errors).toEqual([]);
});

test("leaves nothing behind after 60 requests of which half are aborted", async () => {
  const requests = Array.from({ length: 60 }, async (_, i) => {
    const controller = new AbortController();
    const body = { model: "toy", prompt: "the fox ".repeat(1 + (i % 5)), max_tokens: 60, ...extra({ ignore_eos: true }) };
    if (i % 2 === 0) return (await toy.client.completions.create(body)).usage?.completion_tokens;
    const stream = await toy.client.completions.create({ ...body, stream: true } as OpenAI.CompletionCreateParamsStreaming, {
      signal: controller.signal,
    });
    let chunks = 0;
    for await (const _ of stream) if (++chunks > i % 7) controller.abort();
    return null;
  });
  const results = await Promise.allSettled(requests);
  expect(results.filter((result) => result.status === "fulfilled" && result.value === 60).length).toBe(30);
  await toy.untilIdle();
  expect(toy.engine.stats()).toMatchObject({ running: 0, waiting: 0, pagesUsed: 0, slotsUsed: 0 });
});
