import { formatBytes } from "@zaya/kernels";
import type { Engine, EngineOptions, GenerateRequest } from "@zaya/serve";
import { type Command, InvalidArgumentError, Option } from "commander";
import { interruptSignal, StoppedError } from "../../terminal/src/interrupt.js";
import { createProgressLine } from "../../terminal/src/progress_line.js";
import { addRevisionOption, findModelFolder, type RevisionFlags } from "./model_folder.js";

/** Options of every command that runs a model. */
export interface DeviceFlags extends RevisionFlags {
  readonly dtype: "float32" | "bfloat16";
  readonly cacheDtype?: "float32" | "bfloat16" | "int8";
  readonly threads?: number;
}

/** Options of every command that answers with a model. */
export interface LoadFlags extends DeviceFlags {
  readonly context?: number;
}

/** Options of every command that generates. */
export interface SamplingFlags {
  readonly temperature: number;
  readonly topP: number;
  readonly topK: number;
  readonly maxTokens?: number;
  readonly seed?: number;
}

/** A whole number from `min` to `max`, else the command ends with one line. */
export function wholeNumber(min: number, max = Number.MAX_SAFE_INTEGER): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (text.trim() === "" || !Number.isInteger(value) || value < min || value > max) {
      const range = max < Number.MAX_SAFE_INTEGER ? ` from ${min} to ${max}` : min > Number.MIN_SAFE_INTEGER ? ` ≥ ${min}` : "";
      throw new InvalidArgumentError(`Expected a whole number${range}.`);
    }
    return value;
  };
}

/** Whole numbers with commas between, each from `min` to `max`. */
export function wholeNumbers(min: number, max?: number): (text: string) => number[] {
  return (text) => text.split(",").map(wholeNumber(min, max));
}

/** A number from `min` to `max`. */
export function numberWithin(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (text.trim() === "" || !(value >= min && value <= max)) throw new InvalidArgumentError(`Expected a number from ${min} to ${max}.`);
    return value;
  };
}

/** A text with something in it: an unset variable of the shell is none. */
export function someText(text: string): string {
  if (text.trim() === "" || /[\r\n]/.test(text)) throw new InvalidArgumentError("Expected one line that is not empty.");
  return text;
}

/** "*", or an origin as browsers tell it. */
export function origin(text: string): string {
  if (text === "*" || (URL.canParse(text) && new URL(text).origin === text)) return text;
  throw new InvalidArgumentError("Expected * or an origin without a path, such as https://example.com.");
}

/** A name as it can stand in a URL, without a port; for an option that may be given several times. */
export function hosts(text: string, before: readonly string[] = []): readonly string[] {
  if (!URL.canParse(`http://${text}`) || new URL(`http://${text}`).host !== text.toLowerCase() || /:\d+$/.test(text))
    throw new InvalidArgumentError("Expected a name without a port, such as zaya.example.com.");
  return [...before, text];
}

/** For an option that may be given several times. */
export function collect(text: string, before: readonly string[] = []): readonly string[] {
  if (text === "") throw new InvalidArgumentError("Expected a text that is not empty.");
  return [...before, text];
}

export function addDeviceOptions(command: Command): Command {
  return addRevisionOption(command)
    .addOption(
      new Option("--dtype <type>", "type of weights that are not packed yet (quantize)")
        .choices(["float32", "bfloat16"])
        .default("bfloat16"),
    )
    .addOption(
      new Option("--cache-dtype <type>", "type of cached keys and values (default: that of the weights)").choices([
        "float32",
        "bfloat16",
        "int8",
      ]),
    )
    .option("--threads <n>", "threads of the CPU (default: all)", wholeNumber(1, 1024));
}

export function addLoadOptions(command: Command): Command {
  return addDeviceOptions(command).option(
    "--context <tokens>",
    "longest prompt and answer together (default: the model's, at most 4096)",
    wholeNumber(1),
  );
}

/** For commands that read weights long enough for it to pay. */
export function addHugePagesOption(command: Command): Command {
  return command.option(
    "--no-huge-pages",
    "begin at once where weights lie in small pages of the system's cache of files, as after a copy: every token is then slower, up to a fifth",
  );
}

export function addSamplingOptions(command: Command): Command {
  return command
    .option("--max-tokens <n>", "most tokens to generate (default: what the context leaves)", wholeNumber(1))
    .option("--temperature <t>", "0 takes the most probable token", numberWithin(0, 100), 0.8)
    .option("--top-p <p>", "draw from this much of the probability", numberWithin(0, 1), 0.95)
    .option("--top-k <k>", "draw from the k most probable tokens, 0 from all", wholeNumber(0), 0)
    .option("--seed <n>", "the same seed gives the same text", wholeNumber(Number.MIN_SAFE_INTEGER));
}

/**
 * Opens the model that a command was given: a folder, or a name on the hub, which it is then served under. Ctrl-C ends it between two tensors.
 * `expectFolder` may refuse the folder before anything is loaded from it.
 */
export async function openEngine(
  model: string,
  { dtype, cacheDtype, threads, context, revision }: LoadFlags,
  options: EngineOptions = {},
  expectFolder?: (dir: string) => Promise<void>,
): Promise<Engine> {
  const { dir, hubName } = await findModelFolder(model, { revision });
  await expectFolder?.(dir);
  using interrupt = interruptSignal(() => new StoppedError("stopped while loading"));
  const { signal } = interrupt;
  const progress = createProgressLine();
  try {
    const { createEngine } = await import("@zaya/serve");
    const engine = await createEngine(dir, {
      dtype,
      cacheDtype,
      threads,
      contextTokens: context,
      onProgress: (doneBytes, totalBytes) => progress.update(`loading ${formatBytes(doneBytes)} of ${formatBytes(totalBytes)}`),
      signal,
      ...options,
      name: options.name ?? hubName ?? undefined,
    });
    if (!signal.aborted) return engine;
    await engine[Symbol.asyncDispose]();
    throw signal.reason;
  } finally {
    progress.end();
  }
}

export function samplingOptions({ temperature, topP, topK, maxTokens, seed }: SamplingFlags): GenerateRequest {
  return { temperature, topP, topK, maxTokens, seed };
}
