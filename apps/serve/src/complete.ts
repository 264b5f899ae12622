import type { GenerateEvent } from "@zaya/serve";
import { interruptSignal, StoppedError } from "../../terminal/src/interrupt.js";
import { exitCodes, InputError } from "./exit.js";
import { type LoadFlags, openEngine, type SamplingFlags, samplingOptions } from "./options.js";
import { readInput } from "./read_input.js";

export interface CompleteFlags extends LoadFlags, SamplingFlags {
  readonly stop?: readonly string[];
  readonly json: boolean;
}

/** Continues one prompt on stdout as it comes, or with --json as one object at the end. Ctrl-C stops it; what came stands. */
export async function complete(model: string, words: readonly string[], flags: CompleteFlags): Promise<number> {
  const prompt = words.length > 0 ? words.join(" ") : process.stdin.isTTY ? "" : (await readInput(process.stdin)).replace(/\r?\n$/, "");
  if (prompt === "") throw new InputError("a prompt is needed: as an argument, or on stdin");
  await using engine = await openEngine(model, flags, { maxSequences: 1 });
  using interrupt = interruptSignal(() => new StoppedError("stopped"));
  const tokenIds: number[] = [];
  let text = "";
  let end: Extract<GenerateEvent, { type: "generate-end" }> | null = null;
  const begin = performance.now();
  let first = begin;
  try {
    for await (const event of engine.generate(
      { prompt, ...samplingOptions(flags), stop: flags.stop ?? [] },
      { signal: interrupt.signal },
    )) {
      if (event.type === "prompt-end") first = performance.now();
      if (event.type === "token") {
        tokenIds.push(event.tokenId);
        text += event.text;
        if (!flags.json) process.stdout.write(event.text);
      }
      if (event.type === "generate-end") end = event;
    }
  } catch (error) {
    if (!interrupt.signal.aborted) throw error;
  }
  const now = performance.now();
  if (flags.json) {
    const seconds = { prompt: (first - begin) / 1000, generation: (now - first) / 1000 };
    const reasons = { finishReason: end?.finishReason ?? "abort", stopReason: end?.stopReason ?? null };
    process.stdout.write(
      `${JSON.stringify({ model: engine.model.id, prompt, text, tokenIds, ...reasons, usage: end?.usage ?? null, seconds })}\n`,
    );
  } else {
    process.stdout.write("\n");
  }
  return end ? exitCodes.done : exitCodes.partial;
}
