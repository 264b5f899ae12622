#!/usr/bin/env node
import { stopAtClosedPipe } from "../../terminal/src/closed_pipe.js";
import { describeFailure } from "./exit.js";
import { runProgram } from "./program.js";

stopAtClosedPipe({ name: "zaya-serve", describe: describeFailure });

process.exitCode = await runProgram(process.argv.slice(2));
