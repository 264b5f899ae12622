#!/usr/bin/env node
import { createRequire } from "node:module";
import { stopAtClosedPipe } from "../../terminal/src/closed_pipe.js";
import { describeError } from "./exit.js";
import { main } from "./program.js";

stopAtClosedPipe({ name: "zaya-train", describe: describeError });

const { version } = createRequire(import.meta.url)("../package.json") as { version: string };
process.exitCode = await main(process.argv.slice(2), version);
