import { afterEach, expect, test, vi } from "vitest";
import { generate, type Piece } from "./api.js";

const model = { id: "tiny", contextTokens: 64, chats: true, key: null };
const settings = { temperature: 1, topP: 1, maxTokens: 8 };
const frame = (body: object) => `data: ${JSON.stringify(body)}\n\n`;

const ask = () => generate(model, { prompt: "a" }, settings, new AbortController().signal);

afterEach(() => vi.unstubAllGlobals());

/** The pieces of an answer that comes `size` bytes at a time. */
async function receive(answer: string, size: number): Promise<Piece[]> {
  const bytes = new TextEncoder().encode(answer);
  const body = new ReadableStream({
    start(controller) {
      for (let i = 0; i < bytes.length; i += size) controller.enqueue(bytes.subarray(i, i + size));
      controller.close();
    },
  });
  vi.stubGlobal("fetch", async () => new Response(body));
  const pieces: Piece[] = [];
  for await (const piece of ask()) pieces.push(piece);
  return pieces;
}

test.each([1, 2, 3, 7, 1000])("frames and characters may be cut anywhere: %i bytes at a time", async (size) => {
  const answer = [
    frame({ choices: [{ text: "grün ", token_ids: [1, 2], finish_reason: null }] }),
    ": a comment\n\n",
    frame({ choices: [{ delta: { role: "assistant", content: "" }, finish_reason: null }] }),
    frame({ choices: [{ delta: { reasoning_content: "hm" }, finish_reason: null }] }),
    frame({ choices: [{ delta: { content: "🦊" }, token_ids: [3], finish_reason: "stop" }] }),
    frame({ choices: [], usage: { total_tokens: 4 } }),
    "data: [DONE]\n\n",
  ];
  expect(await receive(answer.join(""), size)).toEqual([
    { text: "grün ", reasoning: "", tokens: 2, finishReason: null },
    { text: "", reasoning: "", tokens: 0, finishReason: null },
    { text: "", reasoning: "hm", tokens: 0, finishReason: null },
    { text: "🦊", reasoning: "", tokens: 1, finishReason: "stop" },
  ]);
});

test("an error in the midst of an answer is thrown, and what came before it was given", async () => {
  const pieces: string[] = [];
  const error = frame({ error: { message: "the engine stopped" } });
  vi.stubGlobal("fetch", async () => new Response(frame({ choices: [{ text: "a", finish_reason: null }] }) + error));
  const read = async () => {
    for await (const piece of ask()) pieces.push(piece.text);
  };
  await expect(read()).rejects.toThrow("the engine stopped");
  expect(pieces).toEqual(["a"]);
});

test.each([
  ["a finish reason", frame({ choices: [{ text: "a", finish_reason: "stop" }] })],
  ["[DONE]", `${frame({ choices: [{ text: "a", finish_reason: null }] })}data: [DONE]\n\n`],
])("an answer that ends with %s is complete", async (_, answer) => {
  expect((await receive(answer, 1000)).map(({ text }) => text)).toEqual(["a"]);
});

test.each([
  ["a frame", frame({ choices: [{ text: "b", finish_reason: null }] })],
  ["half a frame", 'data: {"choices'],
])("an answer that breaks off after %s is no complete answer", async (_, last) => {
  await expect(receive(frame({ choices: [{ text: "a", finish_reason: null }] }) + last, 1000)).rejects.toThrow("the answer was cut off");
});

test("what refuses a request is told in its own words, or by its status", async () => {
  vi.stubGlobal("fetch", async () => Response.json({ error: { message: "too long" } }, { status: 400 }));
  await expect(ask().next()).rejects.toThrow("too long");
  vi.stubGlobal("fetch", async () => new Response("<h1>Bad gateway</h1>", { status: 502, statusText: "Bad Gateway" }));
  await expect(ask().next()).rejects.toThrow("the server answered 502 Bad Gateway");
});
