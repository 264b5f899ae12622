import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import type { Engine, GenerateEvent, GenerateRequest } from "@zaya/serve";
import pc from "picocolors";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { runProgram } from "./program.js";
import { captureOutput } from "./testing/capture_output.js";
import { saveTinyCheckpoint } from "./testing/tiny_checkpoint.js";

/** What the engine says instead of the model, where there is something, and what it was asked. */
const script = { says: [] as GenerateEvent[], asked: [] as GenerateRequest[] };
vi.mock("./options.js", async (load) => {
  const options = await load<typeof import("./options.js")>();
  const openEngine = async (...args: Parameters<typeof options.openEngine>): Promise<Engine> => {
    const engine = await options.openEngine(...args);
    return script.says.length === 0 ? engine : { ...engine, generate };
  };
  return { ...options, openEngine };
});
async function* generate(request: GenerateRequest): AsyncGenerator<GenerateEvent, void, undefined> {
  script.asked.push(structuredClone(request));
  yield* script.says;
}

let dir: string;
const output = captureOutput();

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "zaya-chat-"));
  await saveTinyCheckpoint(join(dir, "tiny"));
  Object.defineProperty(process.stdout, "isTTY", { value: true, configurable: true });
});
afterAll(() => rm(dir, { recursive: true }));

test.each([
  { what: "the end of input", end: "\x04" },
  { what: "Ctrl-C", end: "\x03" },
])("ends in order at $what, before a message and after an answer", async ({ end }) => {
  for (const typed of [[], ["the fox\r"]]) {
    output.stdout = "";
    const stdin = Object.assign(new PassThrough(), { isTTY: true });
    vi.spyOn(process, "stdin", "get").mockReturnValue(stdin as unknown as typeof process.stdin);
    for (const line of [...typed, end]) stdin.write(line);
    expect(await runProgram(["chat", join(dir, "tiny"), "--max-tokens", "3"])).toBe(0);
    expect(output.stdout.match(/\d tokens, [\d.]+ a second/g) ?? []).toHaveLength(typed.length);
    expect(output.stdout).toContain("bye");
    expect(output.stdout.endsWith("\x1b[?2004l")).toBe(true);
  }
});

test("shows a thought dimmed above its answer, and hands both on", async () => {
  vi.spyOn(pc, "dim").mockImplementation((text) => `(${text})`);
  script.says = [
    { type: "token", text: "", reasoning: "hm, ", tokenId: 1 },
    { type: "token", text: "yes", reasoning: "so", tokenId: 2 },
    { type: "token", text: ", the fox", tokenId: 3 },
  ];
  const stdin = Object.assign(new PassThrough(), { isTTY: true });
  vi.spyOn(process, "stdin", "get").mockReturnValue(stdin as unknown as typeof process.stdin);
  for (const line of ["who?\r", "sure?\r", "\x04"]) stdin.write(line);
  expect(await runProgram(["chat", join(dir, "tiny")])).toBe(0);
  expect(output.stdout).toContain("(hm, )(so)\n\nyes, the fox\n");
  expect(script.asked[1]?.messages).toEqual([
    { role: "user", content: "who?" },
    { role: "assistant", content: "yes, the fox", reasoning_content: "hm, so" },
    { role: "user", content: "sure?" },
  ]);
});
