import { spawnSync } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";
import { bundle } from "../../model/src/testing/bundle.js";

let folder: string;
let program: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "zaya-worker-"));
  program = await bundle(fileURLToPath(new URL("./testing/end_worker.ts", import.meta.url)), folder);
});
afterAll(() => rm(folder, { recursive: true }));

test.each([
  { how: "throw", said: "error: boom\nthe worker ended with 1\n" },
  { how: "exit", said: "the worker ended with 3\n" },
  { how: "terminate", said: "the worker ended with 1\n" },
])("a worker thread that ends during its runs leaves the process alone: $how", ({ how, said }) => {
  for (let i = 0; i < 6; i++) {
    const { status, stdout, stderr } = spawnSync(process.execPath, [program, how], { encoding: "utf8" });
    expect({ status, stdout, stderr }).toEqual({ status: 0, stdout: said, stderr: "" });
  }
});
