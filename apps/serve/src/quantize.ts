import { formatBytes } from "@zaya/kernels";
import type { QuantiseEvent, RunKind } from "@zaya/model";
import { type Command, Option } from "commander";
import { formatSeconds } from "../../terminal/src/format_seconds.js";
import { interruptSignal, StoppedError } from "../../terminal/src/interrupt.js";
import { createProgressLine } from "../../terminal/src/progress_line.js";
import { compareFolders } from "./compare.js";
import { exitCodes, InputError } from "./exit.js";
import { formatCount } from "./format.js";
import { addRevisionOption, findModelFolder, modelArgument, type RevisionFlags } from "./model_folder.js";
import { wholeNumber } from "./options.js";

interface QuantizeFlags extends RevisionFlags {
  readonly to: RunKind;
  readonly out: string;
  readonly calibrate?: string;
  readonly calibrateTokens?: number;
  readonly attention?: string;
  readonly head?: string;
  readonly evaluate?: string;
  readonly evaluateTokens: number;
  readonly dryRun: boolean;
  readonly threads?: number;
  readonly json: boolean;
}

const widths = ["4", "6", "8"];

export function addQuantizeCommand(program: Command, onExit: (code: number) => void): void {
  addRevisionOption(
    program.command("quantize").description("write a checkpoint as kernels read it, in fewer bits").argument("<model>", modelArgument),
  )
    .addOption(
      new Option("--to <kind>", "q8: every matrix in 8 bits, q4: experts in 4, bf16: not quantised")
        .choices(["q8", "q4", "bf16"])
        .makeOptionMandatory(),
    )
    .requiredOption("-o, --out <dir>", "folder of the new checkpoint, or of an interrupted run to continue")
    .option(
      "--calibrate <file>",
      "text to run the model on first, which tells what columns of the weights of q4 count most; needs its memory",
    )
    .option("--calibrate-tokens <n>", "tokens of that text (default 16384)", wholeNumber(2))
    .addOption(new Option("--attention <bits>", "width of the attention's projections in q4 (default 8)").choices(widths))
    .addOption(new Option("--head <bits>", "width of embedding and head in q4 (default 8)").choices(widths))
    .option("--evaluate <file>", "text on which the result is compared with the original at the end; needs the memory of both")
    .option("--evaluate-tokens <n>", "tokens of that text", wholeNumber(2), 4096)
    .option("--dry-run", "only say what would be written", false)
    .option("--threads <n>", "threads of the CPU (default: all)", wholeNumber(1, 1024))
    .option("--json", "every event as a line of JSON", false)
    .addHelpText(
      "after",
      `
The result is memory-mapped: it starts at once, and processes that serve it share its memory. Router, convolutions, norms, scales and biases keep
their precision. What is quantised already is refused. Ctrl-C or a crash loses nothing: the same command continues. --calibrate did not lower the
divergence where it was measured: compare with and without it.

Examples:
  zaya-serve quantize checkpoints/zaya1-8b --to q4 --out checkpoints/zaya1-8b-q4
  zaya-serve quantize checkpoints/zaya1-8b --to q8 --out checkpoints/zaya1-8b-q8 --evaluate held-out.txt
  zaya-serve quantize checkpoints/zaya1-8b --to q4 --out checkpoints/zaya1-8b-q4c --calibrate text.txt --evaluate held-out.txt`,
    )
    .action(async (model: string, flags: QuantizeFlags) => onExit(await quantize(model, flags)));
}

async function quantize(model: string, flags: QuantizeFlags): Promise<number> {
  const { to, out, dryRun, json, threads } = flags;
  if (to !== "q4" && (flags.attention ?? flags.head) !== undefined)
    throw new InputError("--attention and --head choose widths of q4; the others have one for all");
  if (to !== "q4" && flags.calibrate !== undefined)
    throw new InputError(`--calibrate is for q4; ${to} does not look at what columns count most`);
  if (flags.calibrate === undefined && flags.calibrateTokens !== undefined) throw new InputError("--calibrate-tokens needs --calibrate");
  // What is wrong with these is said now, not after a download and an hour of work.
  const { expectNoCheckpoint, expectRoomToRun, readText } = await import("@zaya/model/internal");
  const text = flags.evaluate === undefined ? null : await readText(flags.evaluate, flags.evaluateTokens);
  if (flags.calibrate !== undefined) await readText(flags.calibrate, flags.calibrateTokens ?? 16384);
  const { loadCheckpoint, quantiseCheckpoint, readTokenizerFiles } = await import("@zaya/model");
  await expectNoCheckpoint(out);
  const { dir } = await findModelFolder(model, flags);
  if (text !== null && !("tokenizer.json" in (await readTokenizerFiles(dir))))
    throw new InputError(`--evaluate needs a tokenizer.json in ${dir}; put one there, or leave it out`);
  if (text !== null) {
    await using checkpoint = await loadCheckpoint(dir);
    expectRoomToRun([checkpoint], "--evaluate");
  }
  let whole = false;
  using interrupt = interruptSignal(
    () =>
      new StoppedError(
        whole ? `stopped; ${out} is whole: zaya-serve compare tells how near it is` : `stopped; the same command continues ${out}`,
      ),
  );
  const { signal } = interrupt;
  const progress = createProgressLine();
  const begin = performance.now();
  try {
    for await (const event of quantiseCheckpoint({
      from: dir,
      out,
      to,
      attention: width(flags.attention),
      head: width(flags.head),
      calibrate: flags.calibrate,
      calibrateTokens: flags.calibrateTokens,
      dryRun,
      threads,
      onProgress: (done, total) => progress.update(`loading ${formatBytes(done)} of ${formatBytes(total)}`),
      signal,
    })) {
      whole = event.type === "quantise-end";
      if (json) process.stdout.write(`${JSON.stringify(event)}\n`);
      else tell(event, progress, (performance.now() - begin) / 1000);
    }
    if (text !== null && !dryRun) await compareFolders(dir, out, { text, tokens: flags.evaluateTokens, threads, json, signal });
  } finally {
    progress.end();
  }
  return exitCodes.done;
}

function tell(event: QuantiseEvent, progress: ReturnType<typeof createProgressLine>, seconds: number): void {
  if (event.type === "quantise-start") {
    const { parameters, bytesBefore, bytesAfter, resumes } = event;
    const sizes = `${formatCount(parameters)} parameters, ${formatBytes(bytesBefore)} → ${formatBytes(bytesAfter)}`;
    process.stdout.write(`${sizes}${resumes ? "; what an interrupted run of the same job left is kept" : ""}\n`);
  } else if (event.type === "calibrate-window") {
    progress.update(`calibrating: window ${event.done} of ${event.total}`);
  } else if (event.type === "tensor-end") {
    const left = (seconds * (event.totalBytes - event.doneBytes)) / event.doneBytes;
    progress.update(`${formatBytes(event.doneBytes)} of ${formatBytes(event.totalBytes)}, ${formatSeconds(left)} left  ${event.name}`);
  } else {
    progress.end();
    const kept = event.keptBytes > 0 ? `, ${formatBytes(event.keptBytes)} of it from before` : "";
    if (!event.dryRun) process.stdout.write(`${event.out}: ${formatBytes(event.bytes)} in ${formatSeconds(seconds)}${kept}\n`);
  }
}

function width(text: string | undefined): 4 | 6 | 8 | undefined {
  return text === undefined ? undefined : (Number(text) as 4 | 6 | 8);
}
