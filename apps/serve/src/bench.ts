import { formatBytes, type Limits, type Machine } from "@zaya/kernels";
import { type BenchDetails, type BenchEvent, type BenchResult, bench as measure } from "@zaya/serve";
import pc from "picocolors";
import { interruptSignal, StoppedError } from "../../terminal/src/interrupt.js";
import { createProgressLine } from "../../terminal/src/progress_line.js";
import { exitCodes } from "./exit.js";
import { findModelFolder } from "./model_folder.js";
import type { DeviceFlags } from "./options.js";
import { describeMemory, describeProducts } from "./report.js";

export interface BenchFlags extends DeviceFlags {
  readonly hugePages: boolean;
  readonly prompt: number[];
  readonly generate: number[];
  readonly depths: number[];
  readonly batches: number[];
  readonly repetitions: number;
  readonly json: boolean;
}

/** Measures a checkpoint; a row as soon as it is known. Ctrl-C stops it and what is done stands. */
export async function bench(model: string, { json, revision, ...options }: BenchFlags): Promise<number> {
  const { dir } = await findModelFolder(model, { revision });
  using interrupt = interruptSignal(() => new StoppedError("stopped"));
  const results: (BenchResult & BenchDetails)[] = [];
  let machine: Machine | null = null;
  let limits: Limits | null = null;
  const print = (text: string) => {
    if (!json) process.stdout.write(`${text}\n`);
  };
  const progress = createProgressLine();
  const onProgress = (done: number, total: number) => progress.update(`loading ${formatBytes(done)} of ${formatBytes(total)}`);
  try {
    for await (const event of measure(dir, { ...options, onProgress, signal: interrupt.signal })) {
      if (event.type === "bench-start") {
        progress.end();
        machine = event.machine;
        print(describeStart(event));
      } else if (event.type === "fill") {
        progress.update(`filling the cache: ${event.tokens} of ${event.of} tokens`);
      } else if (event.type === "repetition-end") {
        progress.update(`${event.name}: repetition ${event.repetition} of ${event.of}, ${event.tokensPerSecond.toFixed(1)} tokens/s`);
      } else if (event.type === "result") {
        progress.end();
        limits = event.limits;
        results.push({ ...event.result, ...event.details });
        print(`${describeResult(event.result, event.details)}\n`);
      } else {
        limits = event.limits;
      }
    }
  } catch (error) {
    if (!interrupt.signal.aborted) throw error;
  } finally {
    progress.end();
  }
  if (json) process.stdout.write(`${JSON.stringify({ machine, limits, results })}\n`);
  else if (limits) print(describeLimits(limits));
  if (interrupt.signal.aborted) process.stderr.write("zaya-serve: stopped; the repetitions that were finished stand\n");
  return interrupt.signal.aborted ? exitCodes.partial : exitCodes.done;
}

function describeStart({ machine, products, memory, cacheDtype }: Extract<BenchEvent, { type: "bench-start" }>): string {
  const { processor, threads, isa, memoryBytes, system, node } = machine;
  return [
    `${processor}, ${threads} thread${threads === 1 ? "" : "s"}, ${isa}, ${formatBytes(memoryBytes)} · ${system}, Node ${node}`,
    ...describeProducts(products),
    `${describeMemory(memory)}; keys and values in ${cacheDtype}`,
    "",
    pc.bold(columns(["test", "batch", "depth", "tokens/s", "of the limit"])),
  ].join("\n");
}

const widths = [8, 6, 7, 18, 0];
function columns(cells: readonly string[]): string {
  return cells.map((cell, i) => cell.padEnd(widths[i] as number)).join("");
}

const limitNames = { read: "read bandwidth", float32: "float32 peak", bfloat16: "bfloat16 peak", int8: "int8 peak" } as const;
const formatMilliseconds = (milliseconds: number) => `${milliseconds < 100 ? milliseconds.toPrecision(3) : milliseconds.toFixed(0)} ms`;
const percent = (share: number) => `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;

function describeResult(
  result: BenchResult,
  { limitedBy, bytes, readsOnly, ratioToEmptyContext, operations, experts }: BenchDetails,
): string {
  const speed = `${result.tokensPerSecond.toFixed(1)} ± ${result.stddev.toFixed(1)}`;
  const share = `${percent(result.fractionOfLimit)} of the ${limitNames[limitedBy]}`;
  const lines = [columns([result.name, String(result.batch), String(result.depth), speed, share])];
  if (bytes) {
    const { total, ...parts } = bytes;
    const each = Object.entries({ ...parts, "keys and values": parts.keysAndValues, keysAndValues: 0 }).filter(([, size]) => size > 0);
    lines.push(`  a step reads ${formatBytes(total)}: ${each.map(([name, size]) => `${name} ${formatBytes(size)}`).join(", ")}`);
  }
  if (readsOnly !== null)
    lines.push(`  a loop that only reads as many bytes, in as many pieces, reaches ${percent(readsOnly)} of the ${limitNames.read}`);
  if (ratioToEmptyContext !== null)
    lines.push(`  a step takes ${ratioToEmptyContext.toFixed(2)} × the time of one with an empty context, measured in turn`);
  lines.push(`  ${describeTimes(operations)}`);
  if (experts) {
    const distinct = `${experts.distinct.toFixed(2)} (uniform routing: ${experts.distinctIfUniform.toFixed(2)})`;
    const load = `${experts.maxMeanLoad.toFixed(2)}, of the worst layer ${experts.worstMaxMeanLoad.toFixed(2)}`;
    lines.push(`  experts a layer and step: ${distinct}; max/mean load ${load}`);
  }
  return lines.join(`\n`);
}

/** The operations of a step that take at least a hundredth of it, and the others together. */
function describeTimes(operations: BenchDetails["operations"]): string {
  const sum = (some: BenchDetails["operations"]) => some.reduce((all, { milliseconds }) => all + milliseconds, 0);
  const total = sum(operations);
  const isLarge = ({ milliseconds }: { readonly milliseconds: number }) => milliseconds >= total / 100;
  const others = operations.filter((operation) => !isLarge(operation));
  const shown = operations.filter(isLarge);
  if (others.length > 0) shown.push({ name: "other", milliseconds: sum(others) });
  const times = shown.map(({ name, milliseconds }) => `${name} ${formatMilliseconds(milliseconds)} (${percent(milliseconds / total)})`);
  return `a step takes ${formatMilliseconds(total)}: ${times.join(", ")}`;
}

function describeLimits({ read, float32, bfloat16, int8 }: Limits): string {
  const products = `float32 ${float32.toFixed(0)}, bfloat16 ${bfloat16.toFixed(0)}, int8 ${int8.toFixed(0)}`;
  return `limits, medians: read ${read.toFixed(1)} GB/s; ${products} · 10⁹ operations/s`;
}
