import { mkdtemp, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { readText } from "./read_text.js";

const mib = 2 ** 20;
let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "zaya-text-"));
});
afterAll(() => rm(dir, { recursive: true }));

test("reads so much of a text that the tokens are in it, without a character that the end cuts", async () => {
  const path = join(dir, "long");
  await writeFile(path, `x${"é".repeat(2 * mib)}`);
  expect(await readText(path, 100)).toBe(`x${"é".repeat(mib / 2 - 1)}`);
  expect(await readText(path, 4096)).toBe(`x${"é".repeat(mib - 1)}`);
  expect(await readText(path, 1e6)).toBe(`x${"é".repeat(2 * mib)}`);
});

test("reads the beginning of a text that is longer than a string can be", async () => {
  const path = join(dir, "huge");
  await writeFile(path, "the fox");
  await truncate(path, 2 ** 30); // a hole, which takes no room on the disk
  expect(await readText(path, 2)).toHaveLength(mib);
});

test("refuses a character that is cut at the end of a whole text", async () => {
  const path = join(dir, "cut");
  await writeFile(path, Buffer.from("é").subarray(0, 1));
  await expect(readText(path, 2)).rejects.toThrow(`${path} is not UTF-8 text`);
});
