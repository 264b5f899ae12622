import { join } from "node:path";
import { formatBytes } from "@zaya/kernels";
import { presets } from "@zaya/model";
import { type ResumeOptions, resume, type TrainEvent, type TrainOptions, train } from "@zaya/train";
import { type Command, Option } from "commander";
import pc from "picocolors";
import { formatSeconds } from "../../terminal/src/format_seconds.js";
import { interruptSignal } from "../../terminal/src/interrupt.js";
import { createProgressLine } from "../../terminal/src/progress_line.js";
import { shellWord } from "../../terminal/src/shell_word.js";
import { addStepOptions, number, printJson, wholeNumber } from "./commands.js";
import { saveCurve } from "./curve.js";
import { exitCode } from "./exit.js";
import { formatCount } from "./format.js";
import { libraryOptions } from "./names.js";
import { progressLine } from "./progress.js";

export function addTrainCommands(program: Command): void {
  const command = program
    .command("train")
    .summary("train a model on text")
    .description("Trains a model on text files (one document each) and .jsonl files (one document a line) and saves it in a folder.")
    .argument("<files...>", "text and .jsonl files")
    .requiredOption("-o, --out <dir>", "folder of the run: checkpoints, metrics, loss curve")
    .option("-m, --model <preset>", `one of ${Object.keys(presets).join(", ")} (default zaya-small)`);
  addStepOptions(command)
    .option("--seconds <n>", "training time instead of --steps; such a run is not reproducible to the bit", number())
    .option("--fields <names>", "comma-separated keys of a JSONL record, joined by newlines (default text)", (text) => text.split(","))
    .option("--held-out <share>", "share of the text kept for evaluation, at most half (default 0.05)", number({ zero: true }))
    .option("--eval-data <files...>", "text and .jsonl files to evaluate on instead")
    .option("--lr <rate>", "peak learning rate (default 1e-3)", number())
    .option("--final-lr <share>", "what the cosine leaves of it (default 0.1)", number({ zero: true }))
    .option("--warmup <steps>", "steps of linear warm-up (default 20, or a tenth of --steps where that is less)", wholeNumber(0))
    .option("--weight-decay <rate>", "(default 0.1)", number({ zero: true }))
    .option("--beta1 <share>", "what AdamW keeps of the mean gradient at every step (default 0.9)", number({ zero: true }))
    .option("--beta2 <share>", "what it keeps of the mean squared gradient (default 0.95)", number({ zero: true }))
    .option("--eps <n>", "what it adds to the root of that (default 1e-8)", number())
    .option("--momentum <share>", "what Muon keeps of its momentum at every step (default 0.95)", number({ zero: true }))
    .addOption(new Option("--decay <what>", "what decays (default matrices)").choices(["matrices", "all"]))
    .option("--clip <norm>", "largest gradient norm, 0 = none (default 1)", number({ zero: true }))
    .option("--balance-rate <rate>", "learning rate of the balancing biases (default 1e-2)", number({ zero: true }))
    .option("--seed <n>", "(default 1)", wholeNumber(0));
  addLimitOptions(command, (value) => `default ${value}`)
    .option("--resume", "go on with the run in --out if there is one")
    .addHelpText(
      "after",
      `
Examples:
  $ zaya-train train corpus.txt --out runs/first --steps 400
  $ zaya-train train a.jsonl b.jsonl --fields question,answer --model zaya-512 --out runs/qa --seconds 600
Ctrl-C saves after the step in progress; a second Ctrl-C stops at once, and the checkpoint before stays.
Exit codes: 0 done, 1 failed, 2 bad input, 3 cannot run here, 4 stopped and saved, 5 another process works in the folder.`,
    )
    .action(async (files: string[], options) => {
      const { json, ...rest } = options;
      const model = rest.model ?? (rest.from === undefined ? "zaya-small" : undefined);
      const trainOptions = libraryOptions({ ...rest, files, model }) as unknown as TrainOptions;
      await follow((signal) => train({ ...trainOptions, signal }), options.out, json === true);
    });

  const resumeCommand = program
    .command("resume")
    .summary("go on with a run that was stopped")
    .description(
      "Goes on with a run from its newest checkpoint, bit for bit as if it had not been stopped (unless it is limited by --seconds).",
    )
    .argument("<dir>", "folder of the run")
    .option("--data <files...>", "the files of the run, where they have moved; their tokens have to be the same")
    .option("--eval-data <files...>", "the files to evaluate on, where they have moved")
    .option("--steps <n>", "a larger number of updates of the whole run, where it is limited by steps", wholeNumber())
    .option("--seconds <n>", "a longer training time of the whole run, where it is limited by time", number())
    .option("--threads <n>", "threads (default: all)", wholeNumber());
  addLimitOptions(resumeCommand, () => "default: as before").action(async (dir: string, { json, ...rest }) => {
    const options = libraryOptions(rest) as ResumeOptions;
    await follow((signal) => resume(dir, { ...options, signal }), dir, json === true);
  });
}

function addLimitOptions(command: Command, otherwise: (value: string) => string): Command {
  return command
    .option("--evaluate-every <steps>", `(${otherwise("100")})`, wholeNumber())
    .option("--evaluate-tokens <n>", `held-out tokens of one evaluation (${otherwise("32768")})`, wholeNumber())
    .option("--save-every <steps>", `(${otherwise("500")})`, wholeNumber())
    .option("--keep <n>", `newest checkpoints kept; the best stays beside them (${otherwise("2")})`, wholeNumber())
    .option("--cache <dir>", `folder of tokenised data (${otherwise("tokens in the run's folder")})`)
    .option("--json", "print every event as a line of JSON");
}

/** Runs a training, shows it, and turns Ctrl-C into a save. */
async function follow(start: (signal: AbortSignal) => AsyncIterable<TrainEvent>, out: string, json: boolean): Promise<void> {
  using interrupt = interruptSignal(() => new Error("interrupted"));
  const { signal } = interrupt;
  const progress = createProgressLine();
  const [metrics, svg] = [join(out, "metrics.jsonl"), join(out, "loss.svg")];
  let started = false;
  let steps: number | null = null;
  let best = "";
  // Not at once: bad input is answered with one line.
  const reading = setTimeout(() => !json && progress.update("reading and tokenising"), 300);
  signal.addEventListener("abort", () => {
    clearTimeout(reading);
    if (!json) progress.print(`stopping${started ? " after this step" : ""}; Ctrl-C again stops at once`);
  });
  try {
    for await (const event of start(signal)) {
      clearTimeout(reading);
      if (event.type === "run-start") {
        started = true;
        steps = event.steps;
      }
      if (event.type === "train-end" && event.best && event.best.step < event.step)
        best = `held out best at step ${event.best.step}, ${event.best.loss.toFixed(4)} nats a token: ${join(out, "best")}\n`;
      if (json) printJson(event);
      else show(event, steps, progress);
    }
    const chart = await saveCurve(metrics, svg);
    if (!json)
      process.stdout.write(`\n${chart}\n\nloss curve: ${svg}\n${best}serve it:   npx zaya-serve ${shellWord(join(out, "latest"))}\n`);
  } catch (error) {
    clearTimeout(reading);
    progress.end();
    if (started) await saveCurve(metrics, svg).catch(() => {}); // what ended the run is told, not what came of that
    if (!signal.aborted || error !== signal.reason) throw error;
    process.exitCode = exitCode.partial;
    if (!json)
      process.stderr.write(
        started
          ? `stopped and saved; go on with: zaya-train resume ${shellWord(out)}\n`
          : "stopped before the first step; nothing was saved\n",
      );
  }
}

function show(event: TrainEvent, steps: number | null, progress: ReturnType<typeof createProgressLine>): void {
  switch (event.type) {
    case "run-start": {
      const { parameters, data, memory, resumedFrom } = event;
      const done = resumedFrom !== null && steps !== null && resumedFrom >= steps;
      if (done) progress.print(`${resumedFrom} steps are done already; go on with a larger --steps`);
      else if (resumedFrom !== null) progress.print(`going on from step ${resumedFrom}`);
      progress.print(
        `${formatCount(parameters.total)} parameters, ${formatCount(parameters.active)} active a token; vocabulary ${event.vocabSize}`,
      );
      progress.print(
        `${formatCount(data.trainingTokens)} training and ${formatCount(data.heldOutTokens)} held-out tokens in ${data.documents} documents`,
      );
      if (data.notHeldOut !== null) progress.print(`nothing is held out, nor evaluated: ${data.notHeldOut}`);
      progress.print(
        `${event.tokensPerStep} tokens and ${formatCount(event.flopsPerStep)}FLOP a step; memory ${formatBytes(memory.storeBytes + memory.arenaBytes)}`,
      );
      return;
    }
    case "step-end":
      progress.update(progressLine(event, steps));
      return;
    case "evaluation-end":
      progress.print(
        `step ${event.step}  ${pc.bold("held out")}: ${event.loss.toFixed(4)} nats a token, ${event.bitsPerByte.toFixed(4)} bits a byte`,
      );
      return;
    case "checkpoint-end":
      progress.print(`step ${event.step}  saved ${event.path} (${formatBytes(event.bytes)}, ${formatSeconds(event.seconds)})`);
      return;
    case "train-end":
      progress.end();
  }
}
