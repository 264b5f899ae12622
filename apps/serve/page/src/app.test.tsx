// The page as its reader sees it, over a real server with a tiny model.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createEngine, type Engine } from "@zaya/serve";
import { createServer } from "@zaya/serve/http";
import { JSDOM } from "jsdom";
import { render } from "preact";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test, vi } from "vitest";
import { saveTinyCheckpoint } from "../../src/testing/tiny_checkpoint.js";

// The server needs Node's own environment, so the browser's is put beside it.
const { window } = new JSDOM('<div id="app"></div>', { pretendToBeVisual: true });
window.HTMLElement.prototype.scrollIntoView = () => {}; // jsdom lays nothing out
const { document, requestAnimationFrame, cancelAnimationFrame } = window;
Object.assign(globalThis, { window, document, requestAnimationFrame, cancelAnimationFrame });
const { App } = await import("./app.js");

let dir: string;
let engine: Engine;
let server: Awaited<ReturnType<typeof createServer>>;
let origin: string;

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "zaya-page-"));
  await saveTinyCheckpoint(dir);
  engine = await createEngine(dir, { name: "tiny", contextTokens: 1024 });
  server = await createServer(engine);
  origin = await server.listen({ port: 0, host: "127.0.0.1" });
});
afterAll(async () => {
  await server.close();
  await engine[Symbol.asyncDispose]();
  await rm(dir, { recursive: true });
});

const { fetch: fetchUrl } = globalThis;
beforeEach(async () => {
  vi.spyOn(globalThis, "fetch").mockImplementation((path, options) => fetchUrl(`${origin}/${path}`, options)); // the page lies there
  render(<App />, find("#app"));
  await vi.waitFor(() => expect(texts("h1")).toEqual(["tiny"]));
  await set("Temperature", 0); // so that answers are the same every time
});
afterEach(() => {
  render(null, find("#app"));
  vi.restoreAllMocks();
});

const visible = <T extends HTMLElement>(selector: string) =>
  [...document.querySelectorAll<T>(selector)].filter((e) => !e.closest("[hidden]"));
const find = <T extends HTMLElement>(selector: string) => visible<T>(selector)[0] as T;
const texts = (selector: string) => visible(selector).map(({ textContent }) => textContent?.trim());
const button = (label: string) => visible<HTMLButtonElement>("button").find(({ textContent }) => textContent === label);
const press = (key: string, more: KeyboardEventInit = {}) =>
  find("textarea").dispatchEvent(new window.KeyboardEvent("keydown", { key, bubbles: true, cancelable: true, ...more }));
/** Resolves when the page has shown what came of an event. */
const shown = () => new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));

async function click(label: string): Promise<void> {
  button(label)?.click();
  await shown();
}

async function type(text: string): Promise<void> {
  const area = find<HTMLTextAreaElement>("textarea");
  area.value = text;
  area.dispatchEvent(new window.Event("input", { bubbles: true }));
  await shown();
}

async function set(slider: "Temperature" | "Top-p" | "Max tokens", value: number): Promise<void> {
  const label = [...document.querySelectorAll("label")].find(({ textContent }) => textContent?.includes(slider));
  const input = label?.querySelector("input") as HTMLInputElement;
  input.value = String(value);
  input.dispatchEvent(new window.Event("input", { bubbles: true }));
  await shown();
}

const lastSent = () => JSON.parse(vi.mocked(fetch).mock.lastCall?.[1]?.body as string);
const answered = () => vi.waitFor(() => expect(button("Stop")).toBeUndefined(), 20_000);

async function greedyAnswer(path: string, body: object): Promise<{ choices: { text?: string; message?: { content: string } }[] }> {
  const response = await fetch(path, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ model: "tiny", temperature: 0, max_tokens: 16, ...body }),
  });
  return await response.json();
}

test("a conversation goes on, and its last answer can be had again", async () => {
  await set("Max tokens", 16);
  expect(button("Send")?.disabled).toBe(true);
  await type("the quick fox");
  press("Enter");
  await answered();
  const asked = { role: "user", content: "the quick fox" };
  expect(lastSent()).toMatchObject({ model: "tiny", messages: [asked], temperature: 0, max_tokens: 16 });
  const { choices } = await greedyAnswer("v1/chat/completions", { messages: [asked] });
  const content = choices[0]?.message?.content;
  expect(texts("article h2")).toEqual(["You", "ZAYA"]);
  expect(texts("article .plain")).toEqual([asked.content]);
  expect(find(".speed").textContent).toMatch(/^16 tokens · \d+(\.\d)? tokens\/s · first after \d+\.\d\d s$/);
  expect(texts("[role=status]")).toEqual(["cut off at max tokens"]);
  expect(find<HTMLTextAreaElement>("textarea").value).toBe("");

  await type("and then?");
  await click("Send");
  await answered();
  const messages = [asked, { role: "assistant", content }, { role: "user", content: "and then?" }];
  expect(lastSent().messages).toEqual(messages);
  expect(texts("article h2")).toEqual(["You", "ZAYA", "You", "ZAYA"]);
  const before = texts("article");
  await click("Again");
  await answered();
  expect(lastSent().messages).toEqual(messages);
  expect(texts("article")).toEqual(before);

  await click("New chat");
  expect(texts("article")).toEqual([]);
});

test("a text is continued, and what was written can be undone", async () => {
  await click("Complete");
  await set("Max tokens", 16);
  await type("the lazy");
  press("Enter");
  expect(button("Stop")).toBeUndefined(); // a new line
  press("Enter", { ctrlKey: true });
  await shown();
  await answered();
  const { choices } = await greedyAnswer("v1/completions", { prompt: "the lazy" });
  expect(find<HTMLTextAreaElement>("textarea").value).toBe(`the lazy${choices[0]?.text}`);
  await click("Undo");
  expect(find<HTMLTextAreaElement>("textarea").value).toBe("the lazy");
});

test("Escape stops an answer: the server too, and what has come stays", async () => {
  await click("Complete");
  await set("Max tokens", 512);
  await type("the");
  await click("Continue");
  await vi.waitFor(() => expect(find<HTMLTextAreaElement>("textarea").value.length).toBeGreaterThan(3), { timeout: 20_000, interval: 1 });
  press("Escape");
  await answered();
  expect(texts("[role=alert]")).toEqual([]);
  expect(find<HTMLTextAreaElement>("textarea").value.length).toBeGreaterThan(3);
  await vi.waitFor(() => expect(engine.stats().running).toBe(0), 20_000);
  expect(find(".speed").textContent).toMatch(/^\d+ tokens/);
  expect(Number.parseInt(find(".speed").textContent ?? "", 10)).toBeLessThan(512);
});

test("what the server refuses is told, and the next try works", async () => {
  await type("x".repeat(2000));
  await click("Send");
  await answered();
  expect(texts("[role=alert]")).toEqual([expect.stringContaining("1024")]);
  expect(texts("article h2")).toEqual([]);
  expect(find<HTMLTextAreaElement>("textarea").value).toBe("x".repeat(2000)); // to be changed and sent again
  await click("Complete");
  expect(texts("[role=alert]")).toEqual([]);
  await click("Chat");
  await set("Max tokens", 16);
  await type("the");
  await click("Send");
  await answered();
  expect(texts("[role=alert]")).toEqual([]);
  expect(texts("article h2")).toEqual(["You", "ZAYA"]);
});

test("what is refused again keeps what it was to replace, and the draft", async () => {
  const refuse = () => vi.mocked(fetch).mockResolvedValueOnce(Response.json({ error: { message: "too busy" } }, { status: 503 }));
  await set("Max tokens", 16);
  await type("the");
  await click("Send");
  await answered();
  const turns = texts("article");
  for (const draft of ["", "a draft"]) {
    await type(draft);
    refuse();
    await click("Again");
    await answered();
    expect(texts("[role=alert]")).toEqual(["too busy"]);
    expect(texts("article")).toEqual(turns);
    expect(find<HTMLTextAreaElement>("textarea").value).toBe(draft);
  }

  await click("Complete");
  await type("the lazy");
  await click("Continue");
  await answered();
  const text = find<HTMLTextAreaElement>("textarea").value;
  refuse();
  await click("Again");
  await answered();
  expect(find<HTMLTextAreaElement>("textarea").value).toBe(text);
  await click("Undo");
  expect(find<HTMLTextAreaElement>("textarea").value).toBe("the lazy");
});

test("a conversation that is longer than the context points to New chat", async () => {
  await set("Max tokens", 16);
  await type("the");
  await click("Send");
  await answered();
  expect(texts(".hint:not(small)")).toEqual([]);
  await type("the fox ".repeat(400));
  await click("Send");
  await answered();
  expect(texts("[role=alert]")).toEqual([expect.stringMatching(/^messages: the context is 1024 tokens; .*; shorten the messages$/)]);
  expect(texts(".hint:not(small)")).toEqual(["“New chat” begins with an empty context."]);
  await click("New chat");
  expect(texts("[role=alert]")).toEqual([]);
});

test("what came of an answer that breaks off stays, and that it broke off is told", async () => {
  vi.mocked(fetch).mockResolvedValueOnce(new Response('data: {"choices":[{"delta":{"content":"half an"},"finish_reason":null}]}\n\n'));
  await type("the");
  await click("Send");
  await answered();
  expect(texts("[role=alert]")).toEqual(["the answer was cut off"]);
  expect(texts("article .markdown")).toEqual(["half an"]);
});

test("a thought is shown apart, folds when the answer begins, and goes back with the conversation", async () => {
  let stream = {} as ReadableStreamDefaultController;
  const say = (delta: object, finish_reason: string | null = null) =>
    stream.enqueue(new TextEncoder().encode(`data: ${JSON.stringify({ choices: [{ delta, finish_reason }] })}\n\n`));
  const start = (controller: ReadableStreamDefaultController) => {
    stream = controller;
  };
  vi.mocked(fetch).mockResolvedValueOnce(new Response(new ReadableStream({ start })));
  await type("the");
  await click("Send");
  say({ reasoning_content: "the fox *or*" });
  await vi.waitFor(() => expect(texts("details p")).toEqual(["the fox *or*"]));
  expect(find<HTMLDetailsElement>("details").open).toBe(true);
  expect(texts("article .markdown")).toEqual([""]);
  say({ reasoning_content: " the dog" });
  say({ content: "a **fox**" }, "stop");
  stream.close();
  await answered();
  expect(find<HTMLDetailsElement>("details").open).toBe(false);
  expect(texts("details p")).toEqual(["the fox *or* the dog"]);
  expect(texts("article .markdown")).toEqual(["a fox"]);

  await set("Max tokens", 16);
  await type("and then?");
  await click("Send");
  await answered();
  expect(lastSent().messages[1]).toEqual({ role: "assistant", content: "a **fox**", reasoning_content: "the fox *or* the dog" });
});

test("Again gives the focus back, and Escape stops it from anywhere", async () => {
  await set("Max tokens", 16);
  await type("the");
  await click("Send");
  await answered();
  const live = find("[aria-live]");
  expect(live.getAttribute("aria-busy")).toBe("false");

  // An answer that comes until it is stopped.
  vi.mocked(fetch).mockImplementationOnce(async (_, options) => {
    const start = (controller: ReadableStreamDefaultController) => {
      controller.enqueue(new TextEncoder().encode('data: {"choices":[{"delta":{"content":"on and"},"finish_reason":null}]}\n\n'));
      options?.signal?.addEventListener("abort", () => controller.error(new Error("aborted")));
    };
    return new Response(new ReadableStream({ start }));
  });
  button("Again")?.focus();
  await click("Again");
  expect(document.activeElement).toBe(find("textarea"));
  await vi.waitFor(() => expect(texts("article .markdown")).toEqual(["on and"]));
  expect(live.getAttribute("aria-busy")).toBe("true");
  find("textarea").blur();
  document.body.dispatchEvent(new window.KeyboardEvent("keydown", { key: "Escape", bubbles: true }));
  await answered();
  expect(texts("[role=alert]")).toEqual([]);
  expect(texts("article .markdown")).toEqual(["on and"]);
  expect(live.getAttribute("aria-busy")).toBe("false");
});

test("a conversation and a draft stay while the other is looked at", async () => {
  await set("Max tokens", 16);
  await type("the");
  await click("Send");
  await answered();
  const turns = texts("article");
  await type("a draft");
  await click("Complete");
  expect(texts("article")).toEqual([]);
  await type("a text");
  await click("Chat");
  expect(texts("article")).toEqual(turns);
  expect(find<HTMLTextAreaElement>("textarea").value).toBe("a draft");
  await click("Complete");
  expect(find<HTMLTextAreaElement>("textarea").value).toBe("a text");
});

test("asks for the key of a server that has one, again where it is another, and sends it", async () => {
  const guarded = await createServer(engine, { apiKey: "a-key" });
  const there = await guarded.listen({ port: 0, host: "127.0.0.1" });
  vi.mocked(fetch).mockImplementation((path, options) => fetchUrl(`${there}/${path}`, options));
  render(null, find("#app"));
  render(<App />, find("#app"));
  const enter = async (key: string) => {
    const input = find<HTMLInputElement>("form input");
    input.value = key;
    input.dispatchEvent(new window.Event("input", { bubbles: true }));
    await shown();
    await click("Open");
  };
  await vi.waitFor(() => expect(texts("form [role=status]")).toEqual([expect.stringContaining("asks for its API key")]));
  expect(button("Open")?.disabled).toBe(true);
  await enter("another");
  await vi.waitFor(() => expect(texts("form [role=status]")).toEqual([expect.stringContaining("is not the server's key")]));
  await enter("a-key");
  await vi.waitFor(() => expect(texts("h1")).toEqual(["tiny"]));
  await set("Max tokens", 16);
  await type("the");
  await click("Send");
  await answered();
  expect(texts("[role=alert]")).toEqual([]);
  expect(texts("article h2")).toEqual(["You", "ZAYA"]);
  await guarded.close();
});
