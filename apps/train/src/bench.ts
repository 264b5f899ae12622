import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { formatBytes, type Limits, type Machine } from "@zaya/kernels";
import { configJson, type ModelConfig, presets } from "@zaya/model";
import { type BenchEvent, type BenchOptions, type BenchResult, bench } from "@zaya/train";
import type { Command } from "commander";
import pc from "picocolors";
import { interruptible, StoppedError } from "../../terminal/src/interrupt.js";
import { createProgressLine } from "../../terminal/src/progress_line.js";
import { addShapeOptions, printJson, wholeNumber } from "./commands.js";
import { exitCode, InputError } from "./exit.js";
import { formatCount } from "./format.js";
import { libraryOptions } from "./names.js";

export function addBenchCommand(program: Command): void {
  const command = program
    .command("bench")
    .summary("how fast this machine trains, as a share of its peak; writes nothing")
    .description(
      "Trains a preset with random weights and evenly used experts on random tokens. Every step lies between two measurements of the machine's peak.",
    )
    .argument("[preset]", `one of ${Object.keys(presets).join(", ")}`, "zaya-512")
    .option("--vocab-size <n>", "(default: that of the preset)", wholeNumber(1))
    .option("-r, --repetitions <n>", "steps that are measured (default 5)", wholeNumber())
    .option("--reference <python>", "a Python with torch and transformers, to take the same step with the reference implementation")
    .option("--json", "print { machine, limits, results } as JSON");
  addShapeOptions(command).action(async (model: string, { json, reference, ...rest }) => {
    const options = libraryOptions({ ...rest, model }) as unknown as BenchOptions;
    await runBench(options, { json: json ?? false, reference });
  });
}

type ResultEvent = Extract<BenchEvent, { type: "result" }>;

/** What --json prints, as far as the benchmark came. */
interface Report {
  machine: Machine | null;
  limits: Limits | null;
  readonly results: (BenchResult & Pick<ResultEvent, "operations" | "maxMeanExpertLoad">)[];
  reference?: { readonly name: string; readonly tokensPerSecond: number };
}

/** Ctrl-C ends it after the step in progress, or the reference; what is done stands. */
async function runBench(options: BenchOptions, { json, reference }: { json: boolean; reference: string | undefined }): Promise<void> {
  const progress = createProgressLine();
  const print = (line: string) => {
    progress.end();
    if (!json) process.stdout.write(`${line}\n`);
  };
  const report: Report = { machine: null, limits: null, results: [] };
  try {
    progress.update("balancing the experts …");
    await interruptible("stopped", async (signal) => {
      let config: ModelConfig | undefined;
      for await (const event of bench({ ...options, signal })) {
        if (event.type === "bench-start") {
          config = event.config;
          report.machine = event.machine;
          print(describeStart(event));
        } else if (event.type === "repetition-end") {
          progress.update(`step ${event.repetition} of ${event.of}: ${event.tokensPerSecond.toFixed(0)} tokens/s`);
        } else if (event.type === "result") {
          const { result, operations, maxMeanExpertLoad } = event;
          report.results.push({ ...result, operations, maxMeanExpertLoad });
          print(describeResult(event));
        } else {
          report.limits = event.limits;
          print(describeLimits(event.limits));
        }
      }
      const [result] = report.results;
      if (reference === undefined || !config || !result || !report.machine) return;
      progress.update("the reference implementation …");
      const tokensPerSecond = await runReference(reference, config, result, report.machine.threads, signal);
      report.reference = { name: result.name, tokensPerSecond };
      const ratio = (result.tokensPerSecond / tokensPerSecond).toFixed(2);
      print(`reference, bfloat16: ${tokensPerSecond.toFixed(0)} tokens/s; this is ${ratio} × as fast`);
    });
  } catch (error) {
    if (!(error instanceof StoppedError)) throw error;
    progress.end();
    process.stderr.write(`zaya-train: stopped${report.results.length > 0 ? "; what was measured until then stands" : ""}\n`);
    process.exitCode = exitCode.partial;
  } finally {
    progress.end();
  }
  if (json) printJson(report);
}

function describeLimits({ read, float32, bfloat16 }: Limits): string {
  return `limits, medians: read ${read.toFixed(1)} GB/s; float32 ${float32.toFixed(0)}, bfloat16 ${bfloat16.toFixed(0)} GFLOP/s`;
}

function describeStart({ machine, parameters, flopsPerStep, memoryBytes }: Extract<BenchEvent, { type: "bench-start" }>): string {
  const { processor, threads, isa, memoryBytes: all, system, node } = machine;
  return [
    `${processor}, ${threads} thread${threads === 1 ? "" : "s"}, ${isa}, ${formatBytes(all)} · ${system}, Node ${node}`,
    `${formatCount(parameters.total)} parameters, ${formatCount(parameters.active)} active a token without embedding; ${formatCount(flopsPerStep)}FLOP a step; memory ${formatBytes(memoryBytes)}`,
  ].join("\n");
}

function describeResult({ result, operations, maxMeanExpertLoad }: ResultEvent): string {
  const { name, batch, depth, dtype, tokensPerSecond, stddev, fractionOfLimit } = result;
  const percent = (share: number) => `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;
  const milliseconds = (share: number) => `${((share * 1000 * batch * depth) / tokensPerSecond).toPrecision(3)} ms`;
  const largest = operations.filter(({ share }) => share >= 0.01);
  const parts = largest.map(({ name, share }) => `${name} ${milliseconds(share)} (${percent(share)})`);
  return [
    pc.bold(
      `${name} (${batch} × ${depth}): ${tokensPerSecond.toFixed(0)} ± ${stddev.toFixed(0)} tokens/s, ${percent(fractionOfLimit)} of the ${dtype} peak`,
    ),
    `  a step takes ${milliseconds(1)}${parts.length > 0 ? `: ${parts.join(", ")}` : ""}`,
    ...(maxMeanExpertLoad === null ? [] : [`  max/mean expert load, of the worst layer and step, ${maxMeanExpertLoad.toFixed(2)}`]),
  ].join("\n");
}

/** Tokens a second of the same step in the reference implementation. */
async function runReference(
  python: string,
  config: ModelConfig,
  { batch, depth }: BenchResult,
  threads: number,
  signal: AbortSignal,
): Promise<number> {
  const script = fileURLToPath(new URL("../reference_step.py", import.meta.url));
  const child = spawn(python, [script], { stdio: ["pipe", "pipe", "pipe"], signal });
  let [output, errors] = ["", ""];
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    output += text;
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    errors += text;
  });
  child.stdin.on("error", () => {}); // the exit code tells
  child.stdin.end(JSON.stringify({ config: configJson(config), context: depth, windows: batch, threads, steps: 5 }));
  const code = await new Promise<number | null>((resolve, reject) => child.once("error", reject).once("close", resolve)).catch(
    (error: NodeJS.ErrnoException) => {
      throw error.code === "ENOENT" ? new InputError(`--reference ${python}: no such program`) : error;
    },
  );
  const tokensPerSecond = Number(output.trim().split("\n").at(-1));
  if (code !== 0 || !(tokensPerSecond > 0)) {
    throw new InputError(`--reference ${python}: ${errors.trim().split("\n").at(-1) || `ended with ${code}`}`);
  }
  return tokensPerSecond;
}
