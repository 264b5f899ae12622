import { mkdtemp, readdir, readFile, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test, vi } from "vitest";
import { main } from "./program.js";

test("leaves the tokenizer of a checkpoint as it is", async () => {
  const folder = await mkdtemp(join(tmpdir(), "tokenizer-"));
  const [text, tokenizer] = [join(folder, "text.txt"), join(folder, "tokenizer.json")];
  await writeFile(text, "Some text. ".repeat(100));
  for (const file of [tokenizer, join(folder, "config.json")]) await writeFile(file, "{}");
  const write = vi.spyOn(process.stderr, "write").mockReturnValue(true);
  const code = await main(["tokenizer", "train", text, "--out", folder], "0.0.0");
  expect(write.mock.calls.map(([line]) => line)).toEqual([
    `zaya-train: ${folder} holds a checkpoint already (config.json); choose another folder\n`,
  ]);
  write.mockRestore();
  expect(code).toBe(2);
  expect(await readFile(tokenizer, "utf8")).toBe("{}");
});

test("refuses files without text to make a tokenizer of, and makes none", async () => {
  const folder = await mkdtemp(join(tmpdir(), "tokenizer-"));
  const file = join(folder, "empty.txt");
  await writeFile(file, "");
  const write = vi.spyOn(process.stderr, "write").mockReturnValue(true);
  const code = await main(["tokenizer", "train", file, "--out", join(folder, "tokenizer")], "0.0.0");
  expect(write.mock.calls.map(([text]) => text)).toEqual([`zaya-train: no text in ${file}\n`]);
  write.mockRestore();
  expect(code).toBe(2);
  expect(await readdir(folder)).toEqual(["empty.txt"]);
});
