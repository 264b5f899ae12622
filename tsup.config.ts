import { defineConfig, type Options } from "tsup";

/** What every package and app shares; a package's own tsup.config.ts names its entry points. */
export function bundle(entry: Record<string, string>, options: Options = {}) {
  return defineConfig({
    entry,
    format: "esm",
    platform: "node",
    target: "node20",
    outDir: "dist",
    clean: true,
    splitting: true,
    sourcemap: false,
    dts: { compilerOptions: { customConditions: [] } },
    silent: true,
    ...options,
  });
}
