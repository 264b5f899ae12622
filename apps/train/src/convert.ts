import { formatBytes } from "@zaya/kernels";
import { type ConversionEstimate, convertCheckpoint } from "@zaya/model";
import type { Command } from "commander";
import { interruptible } from "../../terminal/src/interrupt.js";
import { createProgressLine } from "../../terminal/src/progress_line.js";
import { printJson } from "./commands.js";
import { exitCode } from "./exit.js";

export function addConvertCommand(program: Command): void {
  program
    .command("convert")
    .summary("a checkpoint in either layout to the transformers layout")
    .description(
      "Reads a ZAYA checkpoint in the original or the transformers layout and writes it in the transformers layout, a tensor at a time.",
    )
    .argument("<from>", "folder of the checkpoint")
    .argument("<to>", "new folder")
    .option("--dry-run", "only check, from configuration, index and headers, and say what would be written")
    .option("--json", "print every event as a line of JSON")
    .action(async (from: string, to: string, { dryRun = false, json = false }) => {
      const progress = createProgressLine();
      await interruptible("stopped; nothing was left in the new folder that looks like a checkpoint", async (signal) => {
        for await (const event of convertCheckpoint({ from, to, dryRun, signal })) {
          if (json) printJson(event);
          if (event.type === "convert-start") {
            if (!json) process.stdout.write(`${describe(event.estimate)}\n`);
            if (dryRun && event.estimate.problems.length > 0) process.exitCode = exitCode.badInput;
          } else if (json) {
            // printed above
          } else if (event.type === "tensor-end") {
            progress.update(`${formatBytes(event.doneBytes)} of ${formatBytes(event.totalBytes)}  ${event.name}`);
          } else {
            progress.end();
            if (!event.dryRun) process.stdout.write(`${event.dir}: ${event.files.length} files, ${formatBytes(event.bytes)}\n`);
          }
        }
      });
    });
}

function describe({ layout, tensors, files, bytes, exact, missingFiles, problems }: ConversionEstimate): string {
  return [
    `${layout} layout, ${tensors.before} tensors → transformers layout, ${tensors.after} tensors, ${files.length} files, ${formatBytes(bytes)}`,
    ...(exact ? [] : ["sizes are from the configuration, as weight files are missing"]),
    ...missingFiles.map((file) => `missing: ${file}`),
    ...problems.map((problem) => `problem: ${problem}`),
  ].join("\n");
}
