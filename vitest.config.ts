import { defineConfig } from "vitest/config";

// Packages resolve to their sources ("@zaya/source"), so tests need no build of the TypeScript; the addon must be built.
const conditions = ["@zaya/source", "node", "import", "module", "default"];

export default defineConfig({
  resolve: { conditions },
  ssr: { resolve: { conditions, externalConditions: ["node", "import", "module", "default"] } },
  test: {
    include: ["packages/*/src/**/*.test.ts", "apps/*/src/**/*.test.ts", "apps/*/page/src/**/*.test.{ts,tsx}", "scripts/*.test.mjs"],
    globalSetup: "scripts/temporary_folder.mjs",
    pool: "forks",
    maxWorkers: 2,
    testTimeout: 60_000,
    hookTimeout: 60_000,
    coverage: { provider: "v8", include: ["packages/*/src/**/*.ts", "apps/*/src/**/*.ts"] },
  },
});
