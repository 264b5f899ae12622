import type OpenAI from "openai";
import { expect, test, vi } from "vitest";
import { extra, toyServer } from "./testing.js";

const toy = toyServer();
const messages = [{ role: "user" as const, content: "the quick fox" }];
const request = { model: "toy", messages, max_tokens: 10, seed: 2 };

test("answers a conversation", async () => {
  const answer = await toy.client.chat.completions.create({ ...request, n: 2, logprobs: true, top_logprobs: 2 });
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
  const whole = await toy.client.chat.completions.create(request);
  const stream = await toy.client.chat.completions.create({ ...request, stream: true, stream_options: { include_usage: true } });
  const chunks: OpenAI.ChatCompletionChunk[] = [];
  for await (const chunk of stream) chunks.push(chunk);
  expect(chunks[0]?.choices[0]?.delta).toEqual({ role: "assistant", content: "" });
  expect(chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join("")).toBe(whole.choices[0]?.message.content);
  expect(chunks.at(-2)?.choices[0]).toMatchObject({ delta: {}, finish_reason: whole.choices[0]?.finish_reason });
  expect(chunks.at(-1)).toMatchObject({ choices: [], usage: whole.usage });
  expect(new Set(chunks.map((chunk) => `${chunk.id} ${chunk.object} ${chunk.created}`)).size).toBe(1);
});

test("is a stream of unnamed frames that ends in [DONE]", async () => {
  const response = await toy.post("/v1/chat/completions", { ...request, stream: true }, { "x-request-id": "mine-1" });
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

test("takes text parts as lines and accepts parameters that ask for nothing", async () => {
  const plain = await toy.client.chat.completions.create({ ...request, messages: [{ role: "user", content: "the quick\nfox" }] });
  const answer = await toy.client.chat.completions.create({
    ...request,
    messages: [
      {
        role: "user",
        content: [
          { type: "text", text: "the quick" },
          { type: "text", text: "fox" },
        ],
      },
    ],
    frequency_penalty: 0,
    presence_penalty: null,
    logit_bias: {},
    response_format: { type: "text" },
    tools: [{ type: "function", function: { name: "look" } }],
    tool_choice: "none",
    metadata: { who: "someone" },
    stop: null,
    user: "someone",
    stream_options: null,
    ...extra({ safety_identifier: "someone", prompt_cache_key: "a", reasoning_effort: "none", modalities: ["text"] }),
  });
  expect(answer.choices[0]?.message.content).toBe(plain.choices[0]?.message.content);
});

test("takes an assistant's refusal for its text, and its turn without a content", async () => {
  const ids = async (turn: Partial<OpenAI.ChatCompletionAssistantMessageParam>) => {
    const asked: OpenAI.ChatCompletionMessageParam[] = [...messages, { role: "assistant", ...turn }, { role: "user", content: "why?" }];
    const answer = await toy.client.chat.completions.create({ ...request, messages: asked, ...extra({ return_token_ids: true }) });
    return (answer as unknown as { prompt_token_ids: number[] }).prompt_token_ids;
  };
  const parts = [
    { type: "text" as const, text: "the fox" },
    { type: "refusal" as const, refusal: "over" },
  ];
  expect(await ids({ content: parts })).toEqual(await ids({ content: "the fox\nover" }));
  expect(await ids({ content: null })).toEqual(await ids({ content: "" }));
  expect(await ids({})).toEqual(await ids({ content: "" }));
});

test("takes the developer for the system", async () => {
  const ids = async (role: string) => {
    const body = { ...request, messages: [{ role, content: "be short" }, ...messages], return_token_ids: true };
    return ((await (await toy.post("/v1/chat/completions", body)).json()) as { prompt_token_ids: number[] }).prompt_token_ids;
  };
  expect(await ids("developer")).toEqual(await ids("system"));
  expect(await ids("developer")).not.toEqual(await ids("user"));
});

test("gives the ids of prompt and answer where asked, streaming too", async () => {
  const asked = { ...request, n: 2, ...extra({ return_token_ids: true }) };
  type WithIds = {
    readonly prompt_token_ids?: number[];
    readonly choices: readonly { readonly index: number; readonly token_ids?: number[] }[];
  };
  const whole = (await toy.client.chat.completions.create(asked)) as unknown as WithIds;
  expect(whole.prompt_token_ids).toEqual(toy.engine.prepare({ messages }).promptIds);
  const prompts: unknown[] = [];
  const tokens: number[][] = [[], []];
  for await (const chunk of await toy.client.chat.completions.create({ ...asked, stream: true })) {
    const { prompt_token_ids, choices } = chunk as unknown as WithIds;
    if (prompt_token_ids) prompts.push(prompt_token_ids);
    for (const { index, token_ids = [] } of choices) tokens[index]?.push(...token_ids);
  }
  expect(prompts).toEqual([whole.prompt_token_ids, whole.prompt_token_ids]); // with the opening of each choice
  expect(tokens).toEqual(whole.choices.map(({ token_ids }) => token_ids));
  expect(await toy.client.chat.completions.create(request)).not.toHaveProperty("prompt_token_ids");
});

test("draws with a new seed where it is −1", async () => {
  const prepare = vi.spyOn(toy.engine, "prepare");
  for (const seed of [-1, undefined, -2, 7]) await toy.client.chat.completions.create({ ...request, seed: seed as number });
  expect(prepare.mock.calls.map(([{ seed }]) => seed)).toEqual([undefined, undefined, -2, 7]);
  prepare.mockRestore();
});

test("takes seeds of 64 bits, the same for the same", async () => {
  const ask = async (seed: string) => {
    const body = JSON.stringify({ ...request, messages, temperature: 1 }).replace('"seed":2', `"seed":${seed}`);
    const { choices } = (await (await toy.post("/v1/chat/completions", body)).json()) as OpenAI.ChatCompletion;
    return choices[0]?.message.content;
  };
  const large = await ask("9223372036854775807");
  expect(large).toBe(await ask("9223372036854775807"));
  expect(large).not.toBe(await ask("4611686018427387904"));
  for (const bound of ["18446744073709551615", "-9223372036854775808"]) expect(await ask(bound)).toBeTypeOf("string");
});
