import { mkdtemp, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { makeFolder } from "./make_folder.js";

test("makes a folder with those above it, and ends where none can be made", async () => {
  const folder = await mkdtemp(join(tmpdir(), "folders-"));
  for (let i = 0; i < 2; i++) await makeFolder(join(folder, "a", "b", "c"));
  expect((await stat(join(folder, "a", "b", "c"))).isDirectory()).toBe(true);
  await writeFile(join(folder, "file"), "");
  await expect(makeFolder(join(folder, "file"))).rejects.toMatchObject({ code: "EEXIST" });
  if (process.platform === "linux") await expect(makeFolder("/proc/zaya/run")).rejects.toMatchObject({ code: "ENOENT" });
});
