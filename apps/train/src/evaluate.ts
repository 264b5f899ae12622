import { formatBytes } from "@zaya/kernels";
import { type EvaluateEvent, type EvaluateOptions, evaluate } from "@zaya/train";
import type { Command } from "commander";
import { interruptible } from "../../terminal/src/interrupt.js";
import { createProgressLine } from "../../terminal/src/progress_line.js";
import { dtypeOption, printJson, wholeNumber } from "./commands.js";
import { formatCount } from "./format.js";
import { libraryOptions } from "./names.js";

export function addEvaluateCommand(program: Command): void {
  program
    .command("eval")
    .summary("the loss of a checkpoint on text")
    .description("Nats a token and bits a UTF-8 byte of a checkpoint on files. Every token but a document's first is predicted once.")
    .argument("<checkpoint>", "folder of a checkpoint with its tokenizer")
    .argument("<files...>", "text and .jsonl files")
    .option("--fields <names>", "comma-separated keys of a JSONL record (default text)", (text) => text.split(","))
    .option("--context <tokens>", "tokens of a window (default 512)", wholeNumber())
    .option("--windows <n>", "windows at a time (default 4)", wholeNumber())
    .addOption(dtypeOption("type of the matrices (default bfloat16; quantised and packed ones as they lie)"))
    .option("--threads <n>", "threads (default: all)", wholeNumber())
    .option("--cache <dir>", "folder in which tokenised data is kept (default: it is not kept)")
    .option("--json", "print the result as JSON")
    .action(async (checkpoint: string, files: string[], { json, ...rest }) => {
      const loading = createProgressLine();
      const progress = createProgressLine();
      try {
        await interruptible("stopped", async (signal) => {
          const onProgress = (done: number, total: number) => {
            if (!json) loading.update(`loading ${formatBytes(done)} of ${formatBytes(total)}`);
          };
          for await (const event of evaluate({
            ...libraryOptions({ ...rest, checkpoint, files }),
            onProgress,
            signal,
          } as unknown as EvaluateOptions)) {
            loading.end();
            if (event.type === "batch-end") {
              if (!json)
                progress.update(`${formatCount(event.tokens)} of ${formatCount(event.totalTokens)} tokens  loss ${event.loss.toFixed(4)}`);
              continue;
            }
            progress.end();
            if (json) printJson(event);
            else process.stdout.write(`${describeLoss(event)}\n`);
          }
        });
      } finally {
        loading.end();
        progress.end();
      }
    });
}

function describeLoss({ loss, bitsPerByte, tokens, bytes, maxMeanExpertLoad }: Extract<EvaluateEvent, { type: "evaluation-end" }>): string {
  const load = maxMeanExpertLoad === null ? "" : `; max/mean expert load ${maxMeanExpertLoad.toFixed(2)}`;
  return `${loss.toFixed(4)} nats a token, ${bitsPerByte.toFixed(4)} bits a byte over ${tokens} tokens, ${bytes} bytes${load}`;
}
