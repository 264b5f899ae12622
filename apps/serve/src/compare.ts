import { formatBytes } from "@zaya/kernels";
import type { Comparison } from "@zaya/model";
import type { Command } from "commander";
import { interruptible } from "../../terminal/src/interrupt.js";
import { createProgressLine } from "../../terminal/src/progress_line.js";
import { exitCodes } from "./exit.js";
import { findModelFolder } from "./model_folder.js";
import { wholeNumber } from "./options.js";

interface CompareOptions {
  readonly tokens: number;
  readonly threads?: number | undefined;
  readonly json: boolean;
}

interface CompareFlags extends CompareOptions {
  /** A path. */
  readonly text: string;
}

export function addCompareCommand(program: Command, onExit: (code: number) => void): void {
  program
    .command("compare")
    .description("how near a model is to another on a text: divergence, perplexity, routing")
    .argument("<reference>", "the model that is right, with its tokenizer")
    .argument("<candidate>", "the model that is judged, such as a quantised one")
    .requiredOption("--text <file>", "what both read")
    .option("--tokens <n>", "tokens of the text, from its beginning", wholeNumber(2), 4096)
    .option("--threads <n>", "threads of the CPU (default: all)", wholeNumber(1, 1024))
    .option("--json", "one JSON object at the end instead of a table", false)
    .addHelpText("after", "\nExample:\n  zaya-serve compare checkpoints/zaya1-8b checkpoints/zaya1-8b-q4 --text held-out.txt")
    .action(async (reference: string, candidate: string, flags: CompareFlags) => {
      const { readText } = await import("@zaya/model/internal");
      const text = await readText(flags.text, flags.tokens); // said now, not after a download
      const [a, b] = [await findModelFolder(reference, {}), await findModelFolder(candidate, {})];
      await interruptible("stopped", (signal) => compareFolders(a.dir, b.dir, { ...flags, text, signal }));
      onExit(exitCodes.done);
    });
}

/** Compares two folders on a text with progress on stderr, and prints what was found. */
export async function compareFolders(
  reference: string,
  candidate: string,
  { text, tokens: maxTokens, threads, json, signal }: CompareOptions & { readonly text: string; readonly signal: AbortSignal },
): Promise<void> {
  const { compareCheckpoints } = await import("@zaya/model");
  const progress = createProgressLine();
  const onProgress = (done: number, total: number) => progress.update(`loading ${formatBytes(done)} of ${formatBytes(total)}`);
  try {
    for await (const event of compareCheckpoints({ reference, candidate, text, maxTokens, threads, onProgress, signal })) {
      if (event.type === "window-end") {
        progress.update(`${event.tokens} of ${event.totalTokens} tokens  KL ${event.meanKl.toFixed(4)}`);
        continue;
      }
      progress.end();
      process.stdout.write(json ? `${JSON.stringify(event)}\n` : describeComparison(event));
    }
  } finally {
    progress.end();
  }
}

function describeComparison({ tokens, meanKl, topAgreement, perplexity, routingAgreement }: Comparison): string {
  const percent = (share: number) => `${(100 * share).toFixed(1)} %`;
  const rows = [
    ["tokens", String(tokens)],
    ["KL divergence", `${meanKl.toFixed(5)} nats a token`],
    ["same most probable token", percent(topAgreement)],
    ["perplexity", `${perplexity.candidate.toFixed(3)}, of the reference ${perplexity.reference.toFixed(3)}`],
    ...routingAgreement.map((share, layer) => [`same expert, layer ${layer}`, percent(share)]),
  ];
  return `${rows.map(([name, value]) => `${name?.padEnd(26)}${value}`).join("\n")}\n`;
}
