// @vitest-environment jsdom
import { render } from "preact";
import { afterEach, expect, test, vi } from "vitest";
import { type Generation, useGeneration } from "./generation.js";

afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

test("an answer is shown at once, then five times a second, and all of it at the end", async () => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance"] });
  let generation = {} as Generation;
  function Probe() {
    generation = useGeneration({ id: "tiny", contextTokens: 64, chats: true, key: null });
    return null;
  }
  render(<Probe />, document.body);
  let stream = {} as ReadableStreamDefaultController;
  const start = (controller: ReadableStreamDefaultController) => {
    stream = controller;
  };
  const body = new ReadableStream({ start });
  vi.stubGlobal("fetch", async () => new Response(body));
  const shown: string[] = [];
  const running = generation.start({ prompt: "a" }, { temperature: 1, topP: 1, maxTokens: 8 }, (text) => shown.push(text));
  for (let i = 0; i < 50; i++) {
    stream.enqueue(new TextEncoder().encode('data: {"choices":[{"text":"x","finish_reason":null}]}\n\n'));
    await vi.advanceTimersByTimeAsync(20);
    if (i === 0) expect(shown).toEqual(["x"]);
  }
  expect(shown.length).toBeGreaterThanOrEqual(5);
  expect(shown.length).toBeLessThanOrEqual(6);
  stream.enqueue(new TextEncoder().encode("data: [DONE]\n\n"));
  stream.close();
  expect(await running).toBe(true);
  expect(shown.join("")).toBe("x".repeat(50));
});
