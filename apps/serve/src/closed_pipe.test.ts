import { EventEmitter } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { initialise, presets, saveCheckpoint, trainTokenizer } from "@zaya/model";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { stopAtClosedPipe } from "../../terminal/src/closed_pipe.js";
import { describeFailure, exitCodes } from "./exit.js";
import { runProgram } from "./program.js";
import { captureOutput } from "./testing/capture_output.js";

let checkpoint: string;
const output = captureOutput();

beforeAll(async () => {
  checkpoint = await mkdtemp(join(tmpdir(), "zaya-pipe-"));
  const tokenizerFiles = await trainTokenizer(["the quick brown fox jumps over the lazy dog"], { vocabSize: 280 });
  const config = { ...presets["zaya-tiny"], vocabSize: 280 };
  await saveCheckpoint(checkpoint, { config, tensors: initialise(config, 1), tokenizerFiles, overwrite: true });
});
afterAll(() => rm(checkpoint, { recursive: true }));

const failure = (code: string) => Object.assign(new Error(`${code}: write`), { code });
const until = async (condition: () => boolean) => {
  while (!condition()) await new Promise((resolve) => setImmediate(resolve));
};

test("a closed pipe stops the work in order, however many lines fail", async () => {
  const [pipe, exit] = [new EventEmitter(), vi.fn()];
  stopAtClosedPipe({ name: "zaya-serve", describe: describeFailure, stopped: exitCodes.partial }, [pipe], exit);
  const code = runProgram(["bench", checkpoint, "-p", "16", "-n", "64,65,66", "-b", "1", "-r", "2"]);
  await until(() => output.stdout.includes("pp16"));
  pipe.emit("error", failure("EPIPE"));
  pipe.emit("error", failure("EPIPE"));
  expect(await code).toBe(4);
  expect(output.stdout).not.toContain("tg66");
  pipe.emit("error", failure("EPIPE"));
  expect(exit).not.toHaveBeenCalled();
});
