import type OpenAI from "openai";
import { expect, test, vi } from "vitest";
import { createSpacedEngine, createToyEngine } from "../testing.js";
import { expectListed } from "./answers.js";
import { createServer } from "./server.js";
import { extra, toyServer } from "./testing.js";

const toy = toyServer();
const request = { model: "toy", prompt: "the lazy dog", max_tokens: 12, seed: 4 };

test("continues a text and counts tokens", async () => {
  const answer = await toy.client.completions.create({ ...request, ...extra({ ignore_eos: true, return_token_ids: true }) });
  const [choice] = answer.choices as (OpenAI.CompletionChoice & { token_ids: number[] })[];
  expect(answer).toMatchObject({ object: "text_completion", model: "toy" });
  expect(answer.id).toMatch(/^cmpl-\w+$/);
  expect(choice).toMatchObject({ index: 0, finish_reason: "length", logprobs: null });
  expect(choice?.text).toBe(toy.engine.tokenizer.decode(choice?.token_ids as number[]));
  const promptTokens = toy.engine.tokenizer.encodePrompt(request.prompt).length;
  expect(answer.usage).toEqual({
    prompt_tokens: promptTokens,
    completion_tokens: 12,
    total_tokens: promptTokens + 12,
    prompt_tokens_details: { cached_tokens: 0 },
    completion_tokens_details: { accepted_prediction_tokens: 0, rejected_prediction_tokens: 0 },
  });
});

test("streams the same text, with usage in a chunk of its own where asked", async () => {
  const whole = await toy.client.completions.create(request);
  const stream = await toy.client.completions.create({ ...request, stream: true, stream_options: { include_usage: true } });
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
  const texts = await toy.client.completions.create({ ...request, prompt: ["the fox", "over the dog"], n: 2 });
  const ids = ["the fox", "over the dog"].map((text) => toy.engine.tokenizer.encodePrompt(text));
  const tokens = await toy.client.completions.create({ ...request, prompt: ids, n: 2 });
  expect(texts.choices.map((choice) => choice.index)).toEqual([0, 1, 2, 3]);
  expect(tokens.choices).toEqual(texts.choices);
  expect(texts.choices[0]?.text).not.toBe(texts.choices[1]?.text);
  expect(texts.usage?.prompt_tokens).toBe(ids.flat().length);
});

test("tokenises a prompt once for all its answers, and others have their turn between two prompts", async () => {
  const { encodePrompt } = toy.engine.tokenizer;
  const turns: number[] = [];
  let turn = 0;
  let ticking = setImmediate(function tick() {
    turn++;
    ticking = setImmediate(tick);
  });
  vi.spyOn(toy.engine.tokenizer, "encodePrompt").mockImplementation((text) => {
    turns.push(turn);
    return encodePrompt(text);
  });
  await toy.client.completions.create({ ...request, prompt: ["the fox", "over the dog"], n: 4 });
  await toy.client.chat.completions.create({ model: "toy", messages: [{ role: "user", content: "the fox" }], max_tokens: 2, n: 4 });
  clearImmediate(ticking);
  vi.restoreAllMocks();
  expect(turns).toHaveLength(3);
  expect(new Set(turns).size).toBe(3);
});

test("scores a token-id prompt and one more token, as evaluation harnesses ask", async () => {
  const prompts = [
    [2, 40, 41, 42, 43],
    [2, 9, 8, 7],
  ];
  const answer = await toy.client.completions.create({
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
    const text = toy.engine.tokenizer.decode(prompts[i] as number[]);
    expect(choice.text.startsWith(text)).toBe(true);
    expect(lists.text_offset?.at(-1)).toBe(text.length);
  });
});

test("echoes the prompt, streaming too, and scores it without generating", async () => {
  const whole = await toy.client.completions.create({ ...request, echo: true });
  expect(whole.choices[0]?.text.startsWith(request.prompt)).toBe(true);
  const stream = await toy.client.completions.create({ ...request, echo: true, stream: true });
  let text = "";
  for await (const chunk of stream) text += chunk.choices[0]?.text ?? "";
  expect(text).toBe(whole.choices[0]?.text);
  const scored = await toy.client.completions.create({ ...request, echo: true, max_tokens: 0, logprobs: 2 });
  expect(scored.choices[0]?.text).toBe(request.prompt);
  expect(scored.choices[0]?.logprobs?.tokens?.length).toBe(toy.engine.tokenizer.encodePrompt(request.prompt).length);
});

test("streams the token ids that an answer as a whole has", async () => {
  const asked = { ...request, prompt: ["the fox", "over"], ...extra({ return_token_ids: true, ignore_eos: true }) };
  type WithIds = { readonly index: number; readonly prompt_token_ids?: number[]; readonly token_ids?: number[] };
  const whole = (await toy.client.completions.create(asked)).choices as unknown as WithIds[];
  const first = new Map<number, WithIds>();
  const tokens: number[][] = [[], []];
  for await (const chunk of await toy.client.completions.create({ ...asked, stream: true })) {
    const choice = chunk.choices[0] as unknown as WithIds;
    if (!first.has(choice.index)) first.set(choice.index, choice);
    tokens[choice.index]?.push(...(choice.token_ids ?? []));
  }
  expect(whole.map(({ index }) => first.get(index)?.prompt_token_ids)).toEqual(whole.map((choice) => choice.prompt_token_ids));
  expect(tokens).toEqual(whole.map((choice) => choice.token_ids));
});

test("scores tokens that are called like members of an object", async () => {
  const names = ["__proto__", "constructor", "toString"];
  const { engine } = await createToyEngine();
  vi.spyOn(engine.tokenizer, "tokenBytes").mockImplementation((id) => new TextEncoder().encode(names[id] ?? `token ${id}`));
  const server = await createServer(engine);
  const payload = { model: "toy", prompt: [5, 0, 1, 2], max_tokens: 0, echo: true, logprobs: 1 };
  const answer = (await server.inject({ method: "POST", url: "/v1/completions", payload })).json() as OpenAI.Completion;
  await server.close();
  const lists = answer.choices[0]?.logprobs as OpenAI.CompletionChoice.Logprobs;
  expect(lists.tokens).toEqual(["token 5", ...names]);
  names.forEach((name, i) => {
    const entry = Object.entries(lists.top_logprobs?.[i + 1] ?? {}).find(([text]) => text === name);
    expect(entry?.[1]).toBe(lists.token_logprobs?.[i + 1]);
  });
});

test.each([
  { prompt: "", echo: false },
  { prompt: "fox", echo: false },
  { prompt: "", echo: true },
  { prompt: "fox", echo: true },
  { prompt: [2], echo: true, skip_special_tokens: false }, // the bos
])("offsets are those of the text where the tokenizer drops a space at the start of one: %o", async (asked) => {
  const { engine, word } = await createSpacedEngine();
  await using _engine = engine;
  await using server = await createServer(engine);
  const payload = { ...asked, max_tokens: 3, temperature: 0, logprobs: 0 };
  const [{ text, logprobs }] = (await server.inject({ method: "POST", url: "/v1/completions", payload })).json().choices;
  const [, second, third] = logprobs.text_offset.slice(-3);
  expect([text.slice(second, third), text.slice(third)]).toEqual([` ${word}`, ` ${word}`]);
});

test("offsets count characters, not halves of them", async () => {
  const asked = { model: "toy", prompt: "😀😀 hello", max_tokens: 3, seed: 1, logprobs: 0, echo: true };
  const [whole] = (await toy.client.completions.create(asked)).choices as [OpenAI.CompletionChoice];
  const characters = [...whole.text];
  const { tokens = [], text_offset: offsets = [] } = whole.logprobs as OpenAI.CompletionChoice.Logprobs;
  const readable = tokens.flatMap((token, i) =>
    token.startsWith("bytes:") || token.startsWith("<") ? [] : [[token, offsets[i] as number] as const],
  );
  expect(readable.length).toBeGreaterThan(3);
  for (const [token, offset] of readable.slice(0, 4)) expect(characters.slice(offset, offset + [...token].length).join("")).toBe(token);
  const streamed: number[] = [];
  for await (const { choices } of await toy.client.completions.create({ ...asked, stream: true }))
    streamed.push(...((choices[0]?.logprobs as OpenAI.CompletionChoice.Logprobs | null)?.text_offset ?? []));
  expect(streamed).toEqual(offsets);
});

test("refuses to list more log-probabilities than fit into one answer", () => {
  expect(() => expectListed(2 ** 22 / 21, 20)).not.toThrow();
  expect(() => expectListed(2 ** 22 / 21 + 1, 20)).toThrow(expect.objectContaining({ status: 400, param: "logprobs" }));
});

test("stops at stop strings", async () => {
  const free = { ...request, max_tokens: 40, ...extra({ ignore_eos: true }) };
  const text = (await toy.client.completions.create(free)).choices[0]?.text as string;
  const stop = text.slice(10, 14);
  const answer = await toy.client.completions.create({ ...free, stop: [stop] });
  expect(answer.choices[0]).toMatchObject({ finish_reason: "stop", stop_reason: stop, text: text.slice(0, text.indexOf(stop)) });
});
