#!/usr/bin/env node
import { createRequire } from "node:module";
import { exitCode } from "./exit.js";
import { main } from "./program.js";

// A reader that goes before the end, as `head` does, ends the program quietly.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code !== "EPIPE") throw error;
  process.exit(exitCode.partial);
});

const { version } = createRequire(import.meta.url)("../package.json") as { version: string };
process.exitCode = await main(process.argv.slice(2), version);
