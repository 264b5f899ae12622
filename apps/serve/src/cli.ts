#!/usr/bin/env node
import { stopAtClosedPipe } from "./closed_pipe.js";
import { runProgram } from "./program.js";

stopAtClosedPipe([process.stdout, process.stderr]);

process.exitCode = await runProgram(process.argv.slice(2));
