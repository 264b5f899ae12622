import type OpenAI from "openai";
import { expect, test } from "vitest";
import { createScriptedEngine } from "../testing.js";
import { createServer } from "./server.js";

const opening = "{% for m in messages %}{{ m.reasoning_content }}|{{ m.content }}\n{% endfor %}<think>";
const request = { messages: [{ role: "user", content: "the fox" }], max_tokens: 60 };

const { tokenizer } = await createScriptedEngine([]);
const encode = (text: string) => [...tokenizer.encode(text, { addSpecialTokens: false })];

interface Part {
  readonly content?: string | null;
  readonly reasoning_content?: string;
}
type Answer = Omit<OpenAI.ChatCompletion, "choices"> & {
  readonly choices: readonly { readonly message: Part; readonly token_ids: number[]; readonly finish_reason: string }[];
  readonly prompt_token_ids: number[];
};
type Chunk = Omit<OpenAI.ChatCompletionChunk, "choices"> & {
  readonly choices: readonly { readonly delta: Part; readonly logprobs: { content: unknown[] } | null; readonly token_ids?: number[] }[];
};

/** What a server whose model writes `pieces` answers, whole and as the chunks of a stream. */
async function ask(pieces: readonly string[], more: object = {}, template?: string) {
  await using engine = await createScriptedEngine(pieces, template);
  await using server = await createServer(engine);
  const post = (fields: object) =>
    server.inject({ method: "POST", url: "/v1/chat/completions", payload: { ...request, ...more, ...fields } });
  const whole = (await post({ return_token_ids: true })).json<Answer>();
  const { body } = await post({ stream: true, stream_options: { include_usage: true } });
  const chunks = body
    .split("\n\n")
    .slice(0, -2)
    .map((frame) => JSON.parse(frame.slice("data: ".length)) as Chunk);
  expect(chunks.at(-1)?.usage).toEqual(whole.usage);
  const prompt = engine.tokenizer.decode(whole.prompt_token_ids);
  return { whole, message: whole.choices[0]?.message, deltas: chunks.flatMap(({ choices }) => choices), usage: whole.usage, prompt };
}

const joined = (deltas: readonly { readonly delta: Part }[], field: keyof Part) => deltas.map(({ delta }) => delta[field] ?? "").join("");

test.each([
  {
    what: "a thought",
    pieces: ["<think>", "\n", "the fox", "\n", "</think>", "\n\n", "jumps"],
    expected: { reasoning_content: "the fox", content: "jumps" },
    thought: "<think>\nthe fox\n</think>",
  },
  {
    what: "an empty thought",
    pieces: ["<think>\n\n</think>\n\nno"],
    expected: { reasoning_content: "", content: "no" },
    thought: "<think>\n\n</think>",
  },
  {
    what: "a thought without an answer",
    pieces: ["<think>the</think>"],
    expected: { reasoning_content: "the", content: null },
    thought: "<think>the</think>",
  },
  { what: "no thought", pieces: ["\n", "the <think>", "fox"], expected: { content: "\nthe <think>fox" }, thought: null },
])("separates $what, streaming too", async ({ pieces, expected, thought }) => {
  const { message, deltas, usage, whole } = await ask(pieces);
  expect(message).toEqual({ role: "assistant", refusal: null, ...expected });
  expect(joined(deltas, "reasoning_content")).toBe(expected.reasoning_content ?? "");
  expect(joined(deltas, "content")).toBe(expected.content ?? "");
  expect(whole.choices[0]?.token_ids).toEqual([...pieces.flatMap(encode), tokenizer.eosTokenId]);
  expect(usage?.completion_tokens_details).toEqual({
    accepted_prediction_tokens: 0,
    rejected_prediction_tokens: 0,
    ...(thought === null ? {} : { reasoning_tokens: encode(thought).length }),
  });
});

test("has no content where the answer is cut off inside the thought, of which all is given", async () => {
  const thought = ["<think>", "\nthe fox\n", "</th"];
  const max_tokens = thought.flatMap(encode).length;
  const { message, deltas, usage, whole } = await ask([...thought, "ink>jumps"], { max_tokens });
  expect(whole.choices[0]?.finish_reason).toBe("length");
  expect(message).toMatchObject({ reasoning_content: "the fox\n</th", content: null });
  expect(joined(deltas, "reasoning_content")).toBe(message?.reasoning_content);
  expect(joined(deltas, "content")).toBe("");
  expect(usage?.completion_tokens_details?.reasoning_tokens).toBe(max_tokens);
});

test("begins inside the thought that the template opened, and hands earlier thoughts to it", async () => {
  const messages = [{ role: "assistant", reasoning_content: "so", content: "yes" }, ...request.messages];
  const { message, deltas, prompt } = await ask(["the", "\n</think>\n", "fox"], { messages }, opening);
  expect(message).toMatchObject({ reasoning_content: "the", content: "fox" });
  expect(joined(deltas, "reasoning_content")).toBe("the");
  expect(prompt).toBe("so|yes\n|the fox\n<think>");
});

test("keeps log-probabilities and ids beside their tokens", async () => {
  const { whole, deltas } = await ask(["<think>the</think>fox"], { logprobs: true, return_token_ids: true, n: 2 });
  for (const [index, { token_ids }] of whole.choices.entries()) {
    const own = deltas.filter((choice) => (choice as unknown as { index: number }).index === index && choice.token_ids);
    expect(own.flatMap((choice) => choice.token_ids)).toEqual(token_ids);
    for (const { logprobs } of own) expect(logprobs?.content).toHaveLength(1);
  }
  const [first] = whole.choices;
  const { reasoning_tokens } = whole.usage?.completion_tokens_details ?? {};
  expect(reasoning_tokens).toBe(2 * ((first?.token_ids.length ?? 0) - 1 - "fox".length));
});

test("leaves the thought out where asked, and still counts it", async () => {
  const { message, deltas, usage } = await ask(["<think>the</think>fox"], { include_reasoning: false });
  expect(message).toEqual({ role: "assistant", content: "fox", refusal: null });
  expect(deltas.some(({ delta }) => "reasoning_content" in delta)).toBe(false);
  expect(joined(deltas, "content")).toBe("fox");
  expect(usage?.completion_tokens_details?.reasoning_tokens).toBeGreaterThan(0);
});
