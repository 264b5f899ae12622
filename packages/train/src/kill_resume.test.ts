import { spawnSync } from "node:child_process";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { beforeAll, expect, test } from "vitest";
import { bundle } from "../../model/src/testing/bundle.js";
import { sha256OfFile } from "./files.js";
import { randomText } from "./testing/text.js";

let folder: string;
let program: string;
let corpus: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "kill-"));
  program = await bundle(fileURLToPath(new URL("./testing/run_to_end.ts", import.meta.url)), folder);
  corpus = join(folder, "corpus.jsonl");
  await writeFile(
    corpus,
    randomText(60)
      .map((text) => JSON.stringify(text))
      .join("\n"),
  );
});

function start(out: string, limit: number) {
  return spawnSync(process.execPath, [program, out, corpus, String(limit)], { encoding: "utf8" });
}

/** sha256 of every file of the final checkpoint, and the metrics. */
async function resultOf(out: string) {
  const checkpoint = join(out, "checkpoints", "step-00000004");
  const files = (await readdir(checkpoint, { recursive: true, withFileTypes: true }))
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));
  const hashes: Record<string, string> = {};
  for (const file of files.sort()) hashes[file.slice(checkpoint.length)] = await sha256OfFile(file);
  return { hashes, metrics: await readFile(join(out, "metrics.jsonl"), "utf8"), folders: await readdir(join(out, "checkpoints")) };
}

test("a run killed at any of 26 points of what it writes ends with the same checkpoint and metrics", { timeout: 600_000 }, async () => {
  const whole = join(folder, "whole");
  const uninterrupted = start(whole, Number.POSITIVE_INFINITY);
  expect(uninterrupted.stderr).toBe("");
  const total = Number(uninterrupted.stdout);
  const expected = await resultOf(whole);
  expect(Object.keys(expected.hashes)).toContain("/model.safetensors");
  expect(expected.metrics.trim().split("\n").length).toBe(6);

  const spread = Array.from({ length: 20 }, (_, point) => Math.floor(((point + 0.5) * total) / 20));
  const renames = [1, 2, 3, 4, 5, 6].map((operations) => total - 64 * operations + 32); // the last changes of names, after all bytes
  for (const limit of [...spread, ...renames]) {
    const out = join(folder, `killed-${limit}`);
    const killed = start(out, limit);
    expect(killed.signal, `killed after ${limit} of ${total} bytes: ${killed.stderr}`).toBe("SIGKILL");
    const resumed = start(out, Number.POSITIVE_INFINITY);
    expect(resumed.status, resumed.stderr).toBe(0);
    expect(await resultOf(out), `killed after ${limit} of ${total} bytes`).toEqual(expected);
    await rm(out, { recursive: true });
  }
});

test("a save that is killed leaves the checkpoint before it", { timeout: 120_000 }, async () => {
  const out = join(folder, "previous");
  const counting = start(join(folder, "count"), Number.POSITIVE_INFINITY);
  const killed = start(out, Number(counting.stdout) - 200_000); // in the second of two saves of the same size
  expect(killed.signal).toBe("SIGKILL");
  expect((await readdir(join(out, "checkpoints"))).sort()).toEqual(["partial-step-00000004", "step-00000002"]);
});
