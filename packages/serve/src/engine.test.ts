import { expect, test, vi } from "vitest";
import type { Engine } from "./engine.js";
import type { GenerateEvent, GenerateRequest } from "./request.js";
import { createSpacedEngine, createToyEngine } from "./testing.js";

type TokenEvent = Extract<GenerateEvent, { type: "token" }>;
type End = Extract<GenerateEvent, { type: "generate-end" }>;

async function read(engine: Engine, request: GenerateRequest, signal?: AbortSignal) {
  const events: GenerateEvent[] = [];
  for await (const event of engine.generate(request, { signal })) events.push(event);
  return {
    events,
    prompt: events[0] as Extract<GenerateEvent, { type: "prompt-end" }>,
    tokens: events.filter((event): event is TokenEvent => event.type === "token"),
    end: events.at(-1) as End,
  };
}

const idle = { running: 0, waiting: 0, pagesUsed: 0, slotsUsed: 0 };

test("tells the end of the prompt, each token and the end, whose text is that of the tokens", async () => {
  const { engine } = await createToyEngine();
  const { events, prompt, tokens, end } = await read(engine, { prompt: "the quick", maxTokens: 20, seed: 1, ignoreEos: true });
  expect(events.map((event) => event.type)).toEqual(["prompt-end", ...new Array(20).fill("token"), "generate-end"]);
  expect(prompt.tokenIds).toEqual(engine.tokenizer.encodePrompt("the quick"));
  expect(tokens.map((token) => token.text).join("")).toBe(end.text);
  expect(end.text).toBe(engine.tokenizer.decode(tokens.map((token) => token.tokenId)));
  expect(end).toMatchObject({
    finishReason: "length",
    stopReason: null,
    usage: { promptTokens: prompt.tokenIds.length, completionTokens: 20 },
  });
  expect(engine.stats()).toMatchObject(idle);
});

test("gives the same tokens for the same seed, alone and among others", async () => {
  const { engine } = await createToyEngine();
  const request = { prompt: "the lazy dog", maxTokens: 25, seed: 9, temperature: 1.3, topP: 0.9 };
  const alone = (await read(engine, request)).events;
  const others = Array.from({ length: 12 }, (_, i) => read(engine, { prompt: "fox ".repeat(i + 1), maxTokens: 5 + i, seed: i }));
  const among = (await read(engine, request)).events;
  await Promise.all(others);
  expect(among).toEqual(alone);
  expect((await read(engine, { ...request, seed: 10 })).events).not.toEqual(alone);
  expect((await read(engine, { ...request, choice: 1 })).events).not.toEqual(alone);
});

test("stops at a stop string that crosses tokens, without giving out any of it", async () => {
  const { engine } = await createToyEngine();
  const request = { prompt: "over", maxTokens: 60, seed: 3, ignoreEos: true };
  const whole = (await read(engine, request)).end.text;
  const stop = whole.slice(20, 26);
  const { tokens, end } = await read(engine, { ...request, stop: [stop, "never there"] });
  expect(end).toMatchObject({ finishReason: "stop", stopReason: stop, text: whole.slice(0, whole.indexOf(stop)) });
  expect(tokens.map((token) => token.text).join("")).toBe(end.text);
});

test("stops at the model's end token and at the request's, which count but add no text", async () => {
  const { engine } = await createToyEngine();
  const request = { prompt: "jumps", maxTokens: 200, seed: 5, topK: 3 };
  const free = await read(engine, { ...request, ignoreEos: true });
  const third = free.tokens[2]?.tokenId as number;
  const { tokens, end } = await read(engine, { ...request, ignoreEos: true, stopTokenIds: [third] });
  const at = free.tokens.findIndex((token) => token.tokenId === third);
  expect(tokens.map((token) => token.tokenId)).toEqual(free.tokens.slice(0, at + 1).map((token) => token.tokenId));
  expect(tokens.at(-1)?.text).toBe("");
  expect(end).toMatchObject({ finishReason: "stop", stopReason: third, usage: { completionTokens: at + 1 } });
});

test("scores the prompt and its tokens, chunked or not, with the arg-max's exact number", async () => {
  const request = {
    prompt: "the quick brown fox jumps over the lazy dog, more and more",
    maxTokens: 6,
    temperature: 0,
    logprobs: 3,
    promptLogprobs: 3,
  };
  const small = await createToyEngine({ maxTokens: 8, maxLogitRows: 9 });
  const large = await createToyEngine({ maxTokens: 512, maxLogitRows: 512 });
  const { events, prompt, tokens } = await read(large.engine, request);
  expect((await read(small.engine, request)).events).toEqual(events);
  expect(prompt.logprobs?.length).toBe(prompt.tokenIds.length);
  expect(prompt.logprobs?.[0]).toBeNull();
  expect(prompt.logprobs?.slice(1).map((score) => score?.tokenId)).toEqual(prompt.tokenIds.slice(1));
  for (const token of tokens) expect(token.topLogprobs?.[0]).toEqual({ tokenId: token.tokenId, logprob: token.logprob });
});

test("scores a prompt alone when no token is wanted", async () => {
  const { engine } = await createToyEngine();
  const { prompt, tokens, end } = await read(engine, { prompt: [5, 6, 7], maxTokens: 0, promptLogprobs: 0 });
  expect(prompt.logprobs?.length).toBe(3);
  expect(tokens).toEqual([]);
  expect(end).toMatchObject({ finishReason: "length", text: "", usage: { promptTokens: 3, completionTokens: 0 } });
});

test("never gives out half a character", async () => {
  const { engine } = await createToyEngine();
  const { tokens, end } = await read(engine, { prompt: "dog", maxTokens: 200, seed: 1, ignoreEos: true });
  expect(end.text).toContain("\ufffd");
  expect(tokens.map((token) => token.text).join("")).toBe(engine.tokenizer.decode(tokens.map((token) => token.tokenId)));
});

test("keeps the space between prompt and answer where the tokenizer drops one at the start of a text", async () => {
  const { engine, word } = await createSpacedEngine();
  await using _engine = engine;
  const answer = async (prompt: string) => (await read(engine, { prompt, maxTokens: 2, temperature: 0 })).end.text;
  expect(await answer("fox")).toBe(` ${word} ${word}`);
  expect(await answer("")).toBe(`${word} ${word}`);
});

test("renders conversations through the checkpoint's template", async () => {
  const { engine } = await createToyEngine();
  const messages = [{ role: "user", content: "the fox" }];
  const { prompt } = await read(engine, { messages, maxTokens: 1 });
  expect(engine.tokenizer.decode(prompt.tokenIds, { skipSpecialTokens: false })).toBe(
    "<bos><|im_start|>user\nthe fox<|im_end|>\n<|im_start|>assistant\n",
  );
});

test.each([
  { request: { prompt: "x", messages: [{ role: "user" }] }, code: "INVALID_REQUEST", message: "give either a prompt or messages" },
  { request: {}, code: "INVALID_REQUEST", message: "give either a prompt or messages" },
  { request: { prompt: [] }, code: "INVALID_REQUEST", message: "empty prompt" },
  { request: { prompt: [999] }, code: "INVALID_REQUEST", message: "token 999 is outside the vocabulary of" },
  { request: { prompt: "x", temperature: -1 }, code: "INVALID_REQUEST", message: "temperature: " },
  { request: { prompt: "x", topK: 1.5 }, code: "INVALID_REQUEST", message: "topK: " },
  { request: { prompt: "x", stop: "" }, code: "INVALID_REQUEST", message: "stop" },
  { request: { prompt: "x", beams: 4 }, code: "INVALID_REQUEST", message: "beams" },
  {
    request: { prompt: "x", maxTokens: 500 },
    code: "CONTEXT_LENGTH_EXCEEDED",
    message: "the context is 256 tokens; the request has 2 in the prompt and 500 to generate; shorten the prompt or ask for fewer tokens",
  },
  {
    request: { prompt: new Array(256).fill(9) },
    code: "CONTEXT_LENGTH_EXCEEDED",
    message: "the request has 256 in the prompt; shorten the prompt",
  },
] as { request: GenerateRequest; code: string; message: string }[])(
  "refuses a bad request at once: $code, $message",
  async ({ request, code, message }) => {
    const { engine } = await createToyEngine();
    expect(() => engine.generate(request)).toThrow(expect.objectContaining({ code, message: expect.stringContaining(message) }));
  },
);

test("refuses a text that cannot fit without tokenising it, in a prompt and in messages", async () => {
  const { engine } = await createToyEngine();
  const { tokenizer } = engine;
  const encoded = vi.spyOn(tokenizer, "encodePrompt");
  const text = "é".repeat((256 * tokenizer.maxTokenBytes) / 2);
  for (const request of [{ prompt: `${text}.` }, { messages: [{ role: "user", content: text }] }]) {
    expect(() => engine.generate(request)).toThrow(
      expect.objectContaining({
        code: "CONTEXT_LENGTH_EXCEEDED",
        message: expect.stringMatching(
          /^(prompt|messages): the context is 256 tokens; the request has at least 2\d\d in the prompt; shorten the \1$/,
        ),
      }),
    );
  }
  expect(encoded).not.toHaveBeenCalled();
  expect(() => engine.generate({ prompt: text })).toThrow(/the request has \d{3,} in the prompt/);
  expect(encoded).toHaveBeenCalledTimes(1);
});

test("leaves the tokenizer's bos out where it is asked to", async () => {
  const { engine } = await createToyEngine();
  const ids = engine.tokenizer.encodePrompt("the fox");
  expect(engine.prepare({ prompt: "the fox", addSpecialTokens: false }).promptIds).toEqual(ids.slice(1));
});

test("uses the whole context when no limit is given", async () => {
  const { engine } = await createToyEngine();
  const { end } = await read(engine, { prompt: new Array(250).fill(9), ignoreEos: true });
  expect(end.usage).toEqual({ promptTokens: 250, completionTokens: 6 });
});

test("frees everything when the loop is left", async () => {
  const { engine } = await createToyEngine();
  for await (const event of engine.generate({ prompt: "the", maxTokens: 100, ignoreEos: true })) if (event.type === "token") break;
  expect(engine.stats()).toMatchObject(idle);
});

test("rejects with the signal's reason when aborted, running or waiting, and frees everything", async () => {
  const { engine } = await createToyEngine({ maxSequences: 1, numSlots: 1 });
  const controllers = [new AbortController(), new AbortController()];
  const reads = controllers.map(({ signal }) => read(engine, { prompt: "the", maxTokens: 200, ignoreEos: true }, signal));
  while (engine.stats().generatedTokens < 3) await new Promise((resolve) => setImmediate(resolve));
  expect(engine.stats()).toMatchObject({ running: 1, waiting: 1 });
  controllers[1]?.abort(new Error("no longer wanted"));
  await expect(reads[1]).rejects.toThrow("no longer wanted");
  controllers[0]?.abort(new Error("enough"));
  await expect(reads[0]).rejects.toThrow("enough");
  expect(engine.stats()).toMatchObject(idle);
  await expect(read(engine, { prompt: "the" }, AbortSignal.abort(new Error("before")))).rejects.toThrow("before");
});

test("finishes what runs and takes nothing new while draining", async () => {
  const { engine } = await createToyEngine();
  const running = read(engine, { prompt: "the", maxTokens: 30, ignoreEos: true });
  await Promise.resolve();
  const drained = engine.drain();
  expect(() => engine.generate({ prompt: "x" })).toThrow(expect.objectContaining({ code: "DRAINING" }));
  await drained;
  expect((await running).end.usage.completionTokens).toBe(30);
  expect(engine.stats()).toMatchObject({ ...idle, draining: true });
});

test("renders no conversation with more messages than the context has tokens", async () => {
  const { engine } = await createToyEngine();
  const render = vi.spyOn(engine.tokenizer, "applyChatTemplate");
  const messages = (count: number) => new Array(count).fill({ role: "user", content: "" });
  const refused = expect.objectContaining({ code: "CONTEXT_LENGTH_EXCEEDED", message: expect.stringMatching(/^messages: .* at least/) });
  expect(() => engine.prepare({ messages: messages(257) })).toThrow(refused);
  expect(render).not.toHaveBeenCalled();
  expect(() => engine.prepare({ messages: messages(256) })).toThrow(refused);
  expect(render).toHaveBeenCalled();
});

test("refuses what comes when as many wait as may, and takes requests again when some have ended", async () => {
  const { engine } = await createToyEngine({ maxSequences: 2 }, 256, "toy", 3);
  const all = Array.from({ length: 5 }, (_, i) => read(engine, { prompt: "the", maxTokens: 2 + i, ignoreEos: true }));
  expect(engine.stats()).toMatchObject({ full: true });
  const long = "x".repeat(100_000); // is not looked at
  expect(() => engine.generate({ prompt: long })).toThrow(expect.objectContaining({ code: "QUEUE_FULL" }));
  await all[0];
  expect(engine.stats()).toMatchObject({ full: false });
  await read(engine, { prompt: "the", maxTokens: 1 });
  await Promise.all(all);
  const none = await createToyEngine({ maxSequences: 1 }, 256, "toy", 0);
  const one = read(none.engine, { prompt: "the", maxTokens: 5, ignoreEos: true });
  expect(() => none.engine.generate({ prompt: "x" })).toThrow("the queue is full, with 1 running or waiting");
  await one;
});

test("rejects requests with DISPOSED when it goes first", async () => {
  const { engine, runner } = await createToyEngine();
  const running = read(engine, { prompt: "the", maxTokens: 200, ignoreEos: true });
  running.catch(() => {});
  while (engine.stats().generatedTokens < 3) await new Promise((resolve) => setImmediate(resolve));
  await engine[Symbol.asyncDispose]();
  await expect(running).rejects.toMatchObject({ code: "DISPOSED" });
  expect(runner.disposed).toBe(true);
  await expect(read(engine, { prompt: "the" })).rejects.toMatchObject({ code: "DISPOSED" });
});
