#!/usr/bin/env node
import { createRequire } from "node:module";
import { stopAtClosedPipe } from "./closed_pipe.js";
import { main } from "./program.js";

stopAtClosedPipe([process.stdout, process.stderr]);

const { version } = createRequire(import.meta.url)("../package.json") as { version: string };
process.exitCode = await main(process.argv.slice(2), version);
