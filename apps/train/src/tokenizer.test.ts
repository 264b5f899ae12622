import { mkdir, mkdtemp, readdir, readFile, writeFile } from "node:fs/promises";
import { hostname, tmpdir } from "node:os";
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
  expect(await main(["tokenizer", "train", text, "--out", out, "--vocab-size", "261", "--overwrite"], "0.0.0")).toBe(0);
  write.mockRestore();
  expect((await readdir(out)).sort()).toEqual(["generation_config.json", "notes.md", "tokenizer.json", "tokenizer_config.json"]);
  expect((await loadTokenizer(out)).vocabSize).toBe(261);
});

test("keeps the tokenizer of before when the new one cannot be written", async () => {
  const folder = await mkdtemp(join(tmpdir(), "tokenizer-"));
  const [text, out] = [join(folder, "text.txt"), join(folder, "tokenizer")];
  await writeFile(text, "Some text. ".repeat(100));
  await mkdir(join(out, "tokenizer.json.partial"), { recursive: true }); // where the new one is written first
  const names = ["tokenizer.json", "special_tokens_map.json"];
  for (const name of names) await writeFile(join(out, name), "{}");
  const write = vi.spyOn(process.stderr, "write").mockReturnValue(true);
  expect(await main(["tokenizer", "train", text, "--out", out, "--overwrite"], "0.0.0")).toBe(2);
  write.mockRestore();
  for (const name of names) expect(await readFile(join(out, name), "utf8")).toBe("{}");
});

test("answers a folder that a tokenizer is being trained into with exit code 5", async () => {
  const folder = await mkdtemp(join(tmpdir(), "tokenizer-"));
  const [text, out] = [join(folder, "text.txt"), join(folder, "tokenizer")];
  await writeFile(text, "Some text. ".repeat(100));
  await mkdir(out);
  await writeFile(join(out, "tokenizer.lock"), JSON.stringify({ pid: 1, host: `not-${hostname()}`, started: null }));
  const write = vi.spyOn(process.stderr, "write").mockReturnValue(true);
  const code = await main(["tokenizer", "train", text, "--out", out], "0.0.0");
  expect(write.mock.calls.join()).toContain(" is training a tokenizer into this folder; wait for it or stop it\n");
  write.mockRestore();
  expect(code).toBe(5);
  expect(await readdir(out)).toEqual(["tokenizer.lock"]);
});

test("of two trainings into one folder at once the second is refused", async () => {
  const folder = await mkdtemp(join(tmpdir(), "tokenizer-"));
  const [text, out] = [join(folder, "text.txt"), join(folder, "tokenizer")];
  await writeFile(text, "Some text. ".repeat(100));
  const writes = (["stderr", "stdout"] as const).map((stream) => vi.spyOn(process[stream], "write").mockReturnValue(true));
  const train = () => main(["tokenizer", "train", text, "--out", out, "--vocab-size", "270"], "0.0.0");
  expect((await Promise.all([train(), train()])).sort()).toEqual([0, 5]);
  for (const write of writes) write.mockRestore();
  expect((await readdir(out)).sort()).toEqual(["generation_config.json", "tokenizer.json", "tokenizer_config.json"]);
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
