// @vitest-environment node
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "vite";
import { expect, test } from "vitest";

test("the licences of what is bundled lie beside the page", async () => {
  const outDir = await mkdtemp(join(tmpdir(), "zaya-page-"));
  await build({ root: fileURLToPath(new URL("..", import.meta.url)), logLevel: "error", build: { outDir } });
  const licences = await readFile(join(outDir, "licenses.md"), "utf8");
  for (const name of ["dompurify", "marked", "preact"]) expect(licences).toMatch(new RegExp(`^## ${name} - \\d`, "m"));
  for (const words of ["Apache License", "Christopher Jeffrey", "Jason Miller"]) expect(licences).toContain(words);
  await rm(outDir, { recursive: true });
});
