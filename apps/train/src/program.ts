import { Command, CommanderError } from "commander";
import { addBenchCommand } from "./bench.js";
import { addConvertCommand } from "./convert.js";
import { addEstimateCommand } from "./estimate.js";
import { addEvaluateCommand } from "./evaluate.js";
import { describeError, exitCode } from "./exit.js";
import { addInitCommand } from "./init.js";
import { addTokenizerCommand } from "./tokenizer.js";
import { addTrainCommands } from "./train.js";

/** All commands, with their options. */
export function createProgram(version: string): Command {
  const program = new Command("zaya-train")
    .description("Trains ZAYA mixture-of-experts models, on x86-64 CPUs.")
    .version(version)
    .showHelpAfterError("(add --help for what there is)");
  addTrainCommands(program);
  addEstimateCommand(program);
  addBenchCommand(program);
  addEvaluateCommand(program);
  addTokenizerCommand(program);
  addConvertCommand(program);
  addInitCommand(program);
  for (const command of everyCommand(program)) command.exitOverride();
  return program;
}

export function everyCommand(command: Command): Command[] {
  return [command, ...command.commands.flatMap(everyCommand)];
}

/** Runs one command line (without node and script); returns the exit code. */
export async function main(args: readonly string[], version: string): Promise<number> {
  const program = createProgram(version);
  let command = program;
  program.hook("preAction", (_program, chosen) => {
    command = chosen;
  });
  try {
    await program.parseAsync([...args], { from: "user" });
    return Number(process.exitCode ?? exitCode.done);
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? exitCode.done : exitCode.badInput;
    const { line, code } = describeError(error, command);
    process.stderr.write(`zaya-train: ${line}\n`);
    if (code === exitCode.failed && process.env.ZAYA_TRACE) process.stderr.write(`${error instanceof Error ? error.stack : ""}\n`);
    return code;
  }
}
