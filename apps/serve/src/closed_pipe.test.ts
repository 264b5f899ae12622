import { EventEmitter } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { stopAtClosedPipe } from "../../terminal/src/closed_pipe.js";
import { describeFailure } from "./exit.js";
import { runProgram } from "./program.js";
import { captureOutput } from "./testing/capture_output.js";
import { saveTinyCheckpoint } from "./testing/tiny_checkpoint.js";

let dir: string;
let checkpoint: string;
const output = captureOutput();

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "zaya-pipe-"));
  checkpoint = join(dir, "tiny");
  await saveTinyCheckpoint(checkpoint);
});
afterAll(() => rm(dir, { recursive: true }));

const failure = (code: string) => Object.assign(new Error(`${code}: write`), { code });
const until = async (condition: () => boolean) => {
  while (!condition()) await new Promise((resolve) => setImmediate(resolve));
};

test("a closed pipe stops the work in order, however many lines fail", async () => {
  const [pipe, exit] = [new EventEmitter(), vi.fn()];
  stopAtClosedPipe({ name: "zaya-serve", describe: describeFailure }, [pipe], exit);
  const code = runProgram(["bench", checkpoint, "-p", "16", "-n", "64,65,66", "-b", "1", "-r", "2"]);
  await until(() => output.stdout.includes("pp16"));
  pipe.emit("error", failure("EPIPE"));
  pipe.emit("error", failure("EPIPE"));
  expect(await code).toBe(4);
  expect(output.stdout).not.toContain("tg66");
  pipe.emit("error", failure("EPIPE"));
  expect(exit).not.toHaveBeenCalled();
});
