import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { runProgram } from "./program.js";
import { captureOutput } from "./testing/capture_output.js";
import { saveTinyCheckpoint } from "./testing/tiny_checkpoint.js";

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
