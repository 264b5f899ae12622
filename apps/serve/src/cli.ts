#!/usr/bin/env node
import { CommanderError } from "commander";
import { describeFailure } from "./exit.js";
import { createProgram, usageExitCode } from "./program.js";

const program = createProgram((code) => {
  process.exitCode = code;
});

try {
  await program.parseAsync();
} catch (error) {
  if (error instanceof CommanderError) {
    process.exitCode = usageExitCode(error);
  } else {
    const { line, code } = describeFailure(error);
    process.stderr.write(`zaya-serve: ${line}\n`);
    process.exitCode = code;
  }
}
