import preact from "@preact/preset-vite";
import { defineConfig } from "vite";

export default defineConfig({
  plugins: [preact({ devToolsEnabled: false, prefreshEnabled: false })],
  base: "./",
  server: { proxy: { "/v1": "http://127.0.0.1:8000", "/tokenizer_info": "http://127.0.0.1:8000" } },
  build: {
    outDir: "../../../packages/serve/dist/page",
    emptyOutDir: true,
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0,
    reportCompressedSize: false,
    license: { fileName: "licenses.md" }, // of what is bundled; minifying drops their comments
  },
  logLevel: "warn",
});
