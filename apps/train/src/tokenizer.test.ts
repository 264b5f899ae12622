import { mkdtemp, readdir, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test, vi } from "vitest";
import { main } from "./program.js";

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
