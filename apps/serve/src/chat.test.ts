import { cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
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

test("says at the end of the context how a new conversation begins", async () => {
  const stdin = Object.assign(new PassThrough(), { isTTY: true });
  vi.spyOn(process, "stdin", "get").mockReturnValue(stdin as unknown as typeof process.stdin);
  for (const line of [`${"the fox ".repeat(40)}\r`, "\x04"]) stdin.write(line);
  expect(await runProgram(["chat", join(dir, "tiny"), "--context", "64"])).toBe(0);
  expect(output.stdout).toMatch(/in the prompt; shorten the messages\n.*\/clear begins a new conversation/s);
});

test("refuses a model without a chat template before its weights are loaded", async () => {
  const plain = join(dir, "plain");
  const stdin = Object.assign(new PassThrough(), { isTTY: true });
  vi.spyOn(process, "stdin", "get").mockReturnValue(stdin as unknown as typeof process.stdin);
  await cp(join(dir, "tiny"), plain, { recursive: true });
  const config = JSON.parse(await readFile(join(plain, "tokenizer_config.json"), "utf8")) as object;
  await rm(join(plain, "chat_template.jinja"), { force: true });
  const line = `zaya-serve: ${plain} has no chat template; use \`zaya-serve complete\`\n`;
  for (const given of [
    { ...config, chat_template: undefined },
    { ...config, chat_template: null },
  ]) {
    output.stderr = "";
    await writeFile(join(plain, "tokenizer_config.json"), JSON.stringify(given));
    expect(await runProgram(["chat", plain])).toBe(2);
    expect(output.stderr).toBe(line); // and no word of loading
  }
  await writeFile(join(plain, "chat_template.jinja"), "{{ messages }}");
  stdin.write("\x04");
  expect(await runProgram(["chat", plain])).toBe(0);
  await rm(join(plain, "tokenizer.json"));
  output.stderr = "";
  expect(await runProgram(["chat", plain])).toBe(2);
  expect(output.stderr).toBe(line);
});

test("SIGTERM at the prompt leaves the terminal as it was, and ends with exit code 4", async () => {
  const stdin = Object.assign(new PassThrough(), { isTTY: true, setRawMode: vi.fn() });
  vi.spyOn(process, "stdin", "get").mockReturnValue(stdin as unknown as typeof process.stdin);
  const ended = runProgram(["chat", join(dir, "tiny")]);
  await vi.waitFor(() => expect(output.stdout).toContain("You  "), 20_000);
  process.emit("SIGTERM");
  expect(await ended).toBe(4);
  expect(output.stdout.endsWith("\x1b[?2004l")).toBe(true);
  expect(stdin.setRawMode).toHaveBeenLastCalledWith(false);
  expect(output.stderr).toMatch(/zaya-serve: stopped\n$/);
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
