import { readFileSync } from "node:fs";
import { Command, CommanderError, Option } from "commander";
import type { BenchFlags } from "./bench.js";
import type { ChatFlags } from "./chat.js";
import { expectCommand } from "./command_name.js";
import { addCompareCommand } from "./compare.js";
import type { CompleteFlags } from "./complete.js";
import { describeFailure, exitCodes } from "./exit.js";
import { modelArgument } from "./model_folder.js";
import {
  addDeviceOptions,
  addHugePagesOption,
  addLoadOptions,
  addSamplingOptions,
  collect,
  hosts,
  numberWithin,
  origin,
  someText,
  wholeNumber,
  wholeNumbers,
} from "./options.js";
import { addQuantizeCommand } from "./quantize.js";
import type { ServeFlags } from "./serve.js";

/** Runs the command line; returns the exit code, and tells a failure in one line on stderr. */
export async function runProgram(words: readonly string[]): Promise<number> {
  let code: number = exitCodes.done;
  const program = createProgram((given) => {
    code = given;
  });
  try {
    await expectCommand(words, [...program.commands.map((command) => command.name()), "help"]);
    await program.parseAsync(words, { from: "user" });
    return code;
  } catch (error) {
    // Help and version end so too; commander has told what is wrong.
    if (error instanceof CommanderError) return error.exitCode === 0 ? exitCodes.done : exitCodes.badInput;
    const failure = describeFailure(error);
    process.stderr.write(`zaya-serve: ${failure.line}\n`);
    return failure.code;
  }
}

/** `onExit` gets the exit code of the command that ran. Each command is loaded when it runs: none waits for the others' libraries. */
function createProgram(onExit: (code: number) => void): Command {
  const program = new Command("zaya-serve")
    .description("Serves ZAYA checkpoints over the OpenAI API, and completes and chats in the terminal. CPU only, nothing to set up.")
    .version((JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8")) as { version: string }).version)
    .showHelpAfterError("(--help tells the options)")
    .exitOverride();

  const serveCommand = program
    .command("serve", { isDefault: true })
    .description("serve a checkpoint over HTTP (the default command)")
    .argument("<model>", modelArgument)
    .option("--host <host>", "address to listen on", someText, "127.0.0.1")
    .option("--port <port>", "port, 0 takes a free one", wholeNumber(0, 65535), 8000);
  addHugePagesOption(addLoadOptions(serveCommand))
    .option("--max-sequences <n>", "most requests in one batch", wholeNumber(1, 1024), 16)
    .option("--max-waiting <n>", "most requests that wait beside a batch, more get 429 (default: 64 for each of a batch)", wholeNumber(0))
    .option(
      "--max-batch-tokens <n>",
      "most tokens of a step, a quarter of them of prompts while others decode: fewer make prompts slower and others wait less (default: 512)",
      wholeNumber(1),
    )
    .option("--cache-tokens <n>", "tokens the cache holds for all requests (default: every request's context)", wholeNumber(1))
    .option("--name <name>", "name of the model in the API (default: the folder's, of RUN/latest RUN, or ORG/MODEL)", someText)
    // Looked at where it is used: commander prints a value that it refuses.
    .addOption(
      new Option("--api-key <key>", "what requests below /v1 have to send as a bearer token (default: nothing)").env("ZAYA_API_KEY"),
    )
    .option("--allow-host <name>", "name by which the server on a loopback address may be called; may be given several times", hosts)
    .option("--cors <origin>", "let pages of this origin call the server; * for any (default: none)", origin)
    .option("--drain-seconds <s>", "time that running requests have when the server is stopped", numberWithin(0, 86400), 30)
    .addOption(
      new Option("--log-level <level>", "what is logged to stderr").choices(["debug", "info", "warn", "error", "silent"]).default("warn"),
    )
    .option("--json", "tell start and stop as JSON lines", false)
    .addHelpText(
      "after",
      `
Examples:
  zaya-serve runs/first/latest                serve it on http://127.0.0.1:8000 with a page to try it
  zaya-serve Zyphra/ZAYA1-8B                  download it from the hub first, or go on where a download ended
  zaya-serve runs/first/latest --port 9000 --dtype float32 --threads 2
  zaya-serve serve runs/first/latest --host 0.0.0.0 --max-sequences 32 --context 2048`,
    )
    .action(async (model: string, flags: ServeFlags) => onExit(await (await import("./serve.js")).serve(model, flags)));

  const completeCommand = program
    .command("complete")
    .description("continue a prompt on stdout")
    .argument("<model>", modelArgument)
    .argument("[prompt...]", "the prompt (default: stdin)");
  addSamplingOptions(addLoadOptions(completeCommand))
    .option("--stop <text>", "end before this text; may be given several times", collect)
    .option("--json", "one JSON object at the end instead of text", false)
    .addHelpText(
      "after",
      `
Examples:
  zaya-serve complete runs/first/latest "Once upon a time" --max-tokens 100
  zaya-serve complete runs/first/latest --temperature 0 --json < prompt.txt`,
    )
    .action(async (model: string, prompt: string[], flags: CompleteFlags) =>
      onExit(await (await import("./complete.js")).complete(model, prompt, flags)),
    );

  const chatCommand = program.command("chat").description("talk in the terminal").argument("<model>", modelArgument);
  addSamplingOptions(addLoadOptions(chatCommand))
    .option("--system <text>", "what the model is told first")
    .addHelpText("after", "\nExample:\n  zaya-serve chat checkpoints/zaya1-8b --temperature 0.6 --top-k 20")
    .action(async (model: string, flags: ChatFlags) => onExit(await (await import("./chat.js")).chat(model, flags)));

  const benchCommand = program
    .command("bench")
    .description("how fast a checkpoint reads and generates, as shares of what this machine can do");
  addHugePagesOption(addDeviceOptions(benchCommand.argument("<model>", modelArgument)))
    .option("-p, --prompt <tokens,...>", "lengths of prompts; 0 for none", wholeNumbers(0), [512])
    .option("-n, --generate <tokens,...>", "numbers of tokens to generate; 0 for none", wholeNumbers(0), [128])
    .option("-d, --depths <tokens,...>", "tokens in the cache before", wholeNumbers(0), [0])
    .option("-b, --batches <n,...>", "sequences that generate at once", wholeNumbers(1, 1024), [1, 8])
    .option("-r, --repetitions <n>", "repetitions, of which mean and standard deviation are told", wholeNumber(1), 5)
    .option("--json", "one JSON object at the end: { machine, limits, results }", false)
    .addHelpText(
      "after",
      `
The model is run directly: no HTTP, no sampling, random tokens; warming up is not counted. Peaks and the speed of reading memory are measured between
the steps, in the same seconds. Ctrl-C ends it after the current step and tells what is done.

Examples:
  zaya-serve bench checkpoints/zaya1-8b-q4
  zaya-serve bench checkpoints/zaya1-8b-q4 -p 0 -n 128 -d 0,4096,16384 -b 1`,
    )
    .action(async (model: string, flags: BenchFlags) => onExit(await (await import("./bench.js")).bench(model, flags)));

  addQuantizeCommand(program, onExit);
  addCompareCommand(program, onExit);

  program.addHelpText(
    "after",
    `
Examples:
  zaya-serve runs/first/latest
  zaya-serve complete runs/first/latest "Once upon a time"
  zaya-serve chat runs/first/latest
  zaya-serve Zyphra/ZAYA1-8B --revision main

A folder goes before a name on the hub. Read from the environment: HF_HOME, HF_HUB_CACHE, HF_TOKEN, HF_TOKEN_PATH, HF_ENDPOINT, HF_HUB_OFFLINE, ZAYA_API_KEY.

Exit codes: ${Object.entries({
      0: "done",
      1: "failed",
      2: "bad input",
      3: "no native addon for this machine",
      4: "stopped before the end",
      5: "another process works on it",
    })
      .map(([code, meaning]) => `${code} ${meaning}`)
      .join(", ")}.`,
  );
  for (const command of program.commands) command.copyInheritedSettings(program);
  return program;
}
