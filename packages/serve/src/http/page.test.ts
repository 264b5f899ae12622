import { mkdtemp, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "vite";
import { expect, test } from "vitest";

test("finds no page from a bundle of CommonJS modules, which does not know where it lies", async () => {
  const dir = await mkdtemp(join(tmpdir(), "zaya-bundle-"));
  await build({
    configFile: false,
    logLevel: "silent",
    define: { "import.meta.url": "undefined" }, // as esbuild bundles it
    build: {
      ssr: fileURLToPath(new URL("page.ts", import.meta.url)),
      outDir: dir,
      rolldownOptions: { output: { format: "cjs", entryFileNames: "page.cjs" } },
    },
  });
  const bundle = createRequire(import.meta.url)(join(dir, "page.cjs")) as typeof import("./page.js");
  expect(await bundle.readPage()).toEqual([]);
  await rm(dir, { recursive: true });
});
