import { mkdir, mkdtemp, readdir, readFile, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { loadTokenizer } from "@zaya/model";
import { expect, test, vi } from "vitest";
import { main } from "./program.js";

test.each([
  ["of a checkpoint", ["config.json"], ["--overwrite"], "holds a checkpoint already (config.json); choose another folder"],
  ["beside a run", ["run.json"], ["--overwrite"], "holds a run already (run.json); choose another folder"],
  ["of before", [], [], "holds a tokenizer already (tokenizer.json); choose another folder or ask to overwrite it"],
])("leaves the tokenizer %s as it is", async (_whose, beside, more, message) => {
  const folder = await mkdtemp(join(tmpdir(), "tokenizer-"));
  const [text, tokenizer] = [join(folder, "text.txt"), join(folder, "tokenizer.json")];
  await writeFile(text, "Some text. ".repeat(100));
  for (const file of [tokenizer, ...beside.map((name) => join(folder, name))]) await writeFile(file, "{}");
  const write = vi.spyOn(process.stderr, "write").mockReturnValue(true);
  const code = await main(["tokenizer", "train", text, "--out", folder, ...more], "0.0.0");
  expect(write.mock.calls.map(([line]) => line)).toEqual([`zaya-train: ${folder} ${message}\n`]);
  write.mockRestore();
  expect(code).toBe(2);
  expect(await readFile(tokenizer, "utf8")).toBe("{}");
});

test("replaces a tokenizer with all its files, when asked to", async () => {
  const folder = await mkdtemp(join(tmpdir(), "tokenizer-"));
  const [text, out] = [join(folder, "text.txt"), join(folder, "tokenizer")];
  await writeFile(text, "Some text. ".repeat(100));
  await mkdir(out);
  for (const name of ["tokenizer.json", "special_tokens_map.json", "notes.md"]) await writeFile(join(out, name), "{}");
  const write = vi.spyOn(process.stdout, "write").mockReturnValue(true);
  expect(await main(["tokenizer", "train", text, "--out", out, "--vocab-size", "262", "--overwrite"], "0.0.0")).toBe(0);
  write.mockRestore();
  expect((await readdir(out)).sort()).toEqual(["generation_config.json", "notes.md", "tokenizer.json", "tokenizer_config.json"]);
  expect((await loadTokenizer(out)).vocabSize).toBe(262);
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
