import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";
import { bundle } from "../../../packages/model/src/testing/bundle.js";
import { saveTinyCheckpoint } from "./testing/tiny_checkpoint.js";

let dir: string;
let program: string;

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "zaya-quantize-"));
  program = await bundle(fileURLToPath(new URL("./testing/run_until.ts", import.meta.url)), dir);
  await saveTinyCheckpoint(join(dir, "model"));
});
afterAll(() => rm(dir, { recursive: true }));

/** zaya-serve quantize, killed after `limit` bytes. */
function quantize(out: string, limit = Number.POSITIVE_INFINITY) {
  const words = ["quantize", join(dir, "model"), "--to", "q4", "--out", out, "--threads", "1"];
  return spawnSync(process.execPath, [program, String(limit), out, ...words], { encoding: "utf8" });
}

/** sha256 of every file. */
async function hashes(folder: string): Promise<Record<string, string>> {
  const files = await Promise.all((await readdir(folder)).sort().map(async (name) => [name, await readFile(join(folder, name))] as const));
  return Object.fromEntries(files.map(([name, bytes]) => [name, createHash("sha256").update(bytes).digest("hex")]));
}

test("zaya-serve quantize, killed at any of 12 points, is continued to the same files, and writes over none", {
  timeout: 240_000,
}, async () => {
  const whole = join(dir, "whole");
  const uninterrupted = quantize(whole);
  expect(uninterrupted.status, uninterrupted.stderr).toBe(0);
  const total = Number(uninterrupted.stderr.trim().split("\n").at(-1));
  const expected = await hashes(whole);
  expect(Object.keys(expected)).toEqual([
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
  ]);

  const spread = Array.from({ length: 8 }, (_, point) => Math.floor(((point + 0.5) * total) / 8));
  const operations = [2, 4, 6, 8].map((count) => total - 64 * count + 32); // the last syncs and changes of names
  for (const limit of [...spread, ...operations]) {
    const out = join(dir, "killed");
    const killed = quantize(out, limit);
    expect(killed.signal, `killed after ${limit} of ${total} bytes: ${killed.stderr}`).toBe("SIGKILL");
    expect(await readdir(out), `killed after ${limit} of ${total} bytes`).not.toEqual(Object.keys(expected));
    const resumed = quantize(out);
    expect(resumed.status, resumed.stderr).toBe(0);
    if (limit > total / 4) expect(resumed.stdout).toContain("of it from before");
    expect(await hashes(out), `killed after ${limit} of ${total} bytes`).toEqual(expected);
    await rm(out, { recursive: true });
  }

  const again = quantize(whole);
  expect(again.status).toBe(2);
  expect(again.stderr).toContain("holds a checkpoint already");
  expect(await hashes(whole)).toEqual(expected);
});
