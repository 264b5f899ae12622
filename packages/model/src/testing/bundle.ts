import { readdir } from "node:fs/promises";
import { basename, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { build } from "tsup";

/** Makes one file of a program and all that it imports, so that a test can run it in a process of its own; its path. */
export async function bundle(entry: string, outDir: string): Promise<string> {
  // What the sources find beside themselves, the addon, is found from here.
  const native = pathToFileURL(fileURLToPath(new URL("../../../kernels/src/native.ts", import.meta.url))).href;
  const name = basename(entry, ".ts");
  await build({
    config: false,
    silent: true,
    entry: { [name]: entry },
    outDir,
    format: "cjs",
    target: "node20",
    noExternal: [/.*/],
    esbuildOptions: (options) => {
      options.conditions = ["@zaya/source"];
      options.define = { ...options.define, "import.meta.url": JSON.stringify(native) };
    },
  });
  return join(outDir, (await readdir(outDir)).find((file) => file.startsWith(name)) ?? "");
}
