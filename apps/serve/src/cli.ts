#!/usr/bin/env node
import { exitCodes } from "./exit.js";
import { runProgram } from "./program.js";

// A reader that goes before the end, as `head` does, ends the program quietly.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code !== "EPIPE") throw error;
  process.exit(exitCodes.partial);
});

process.exitCode = await runProgram(process.argv.slice(2));
