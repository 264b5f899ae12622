import { formatBytes } from "@zaya/kernels";
import { presets, runKinds } from "@zaya/model";
import { type CreateEvent, type CreateOptions, createCheckpoint } from "@zaya/train";
import { type Command, Option } from "commander";
import { interruptible } from "../../terminal/src/interrupt.js";
import { createProgressLine, type ProgressLine } from "../../terminal/src/progress_line.js";
import { dtypeOption, printJson, wholeNumber } from "./commands.js";
import { InputError } from "./exit.js";
import { formatCount } from "./format.js";
import { libraryOptions } from "./names.js";

export function addInitCommand(program: Command): void {
  program
    .command("init")
    .summary("a random checkpoint of a preset")
    .description(
      "Writes a random checkpoint, a tensor at a time, with balancing biases under which experts are evenly used: up to 5e8 parameters found by running the model on random tokens, above by simulating its routers on normal inputs. With --to it is written as kernels read it, to be memory-mapped when it is served.",
    )
    .argument("[preset]", `one of ${Object.keys(presets).join(", ")}`)
    .argument("[out]", "folder of the checkpoint")
    .option("--preset <name>", "the preset, in place of the argument")
    .option("-o, --out <dir>", "the folder, in place of the argument")
    .addOption(new Option("--to <kind>", "the run layout instead of the transformers layout").choices([...runKinds]))
    .option("--tokenizer <dir>", "folder with tokenizer.json to put into it; decides the vocabulary")
    .addOption(dtypeOption("type of the weights in the file (default bfloat16)"))
    .option("--seed <n>", "(default 1)", wholeNumber(0))
    .option("--threads <n>", "threads (default: all)", wholeNumber())
    .option("--overwrite", "replace a checkpoint that is there")
    .option("--json", "print every event as a line of JSON")
    .action(async (first: string | undefined, second: string | undefined, { json, preset, out: folder, ...rest }) => {
      const words = [first, second].filter((word) => word !== undefined);
      const model = preset ?? words.shift();
      const out = folder ?? words.shift();
      if (model === undefined || out === undefined || words.length > 0)
        throw new InputError("say one preset and one folder: init PRESET --out DIR, or init --preset PRESET DIR");
      const progress = createProgressLine();
      try {
        await interruptible("stopped; what was written is removed", async (signal) => {
          for await (const event of createCheckpoint({ ...libraryOptions({ ...rest, model, out }), signal } as unknown as CreateOptions)) {
            if (json) printJson(event);
            else tell(event, progress);
          }
        });
      } finally {
        progress.end();
      }
    });
}

function tell(event: CreateEvent, progress: ProgressLine): void {
  if (event.type === "create-start") progress.print(`${formatCount(event.parameters)} parameters, ${formatBytes(event.bytes)}`);
  else if (event.type === "tensor-end") progress.update(`${formatBytes(event.doneBytes)} of ${formatBytes(event.bytes)}  ${event.name}`);
  else if (event.type === "create-end") {
    progress.end();
    process.stdout.write(`${event.out}: ${formatBytes(event.bytes)}\n`);
  } else if (event.method !== "none") {
    const load = event.maxMeanExpertLoad === null ? "" : `, max/mean load ${event.maxMeanExpertLoad.toFixed(2)}`;
    progress.print(`experts balanced (${event.method === "forward" ? "by forward passes" : "by simulated routers"}${load})`);
  }
}
