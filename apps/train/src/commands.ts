import { type Command, InvalidArgumentError, Option } from "commander";

/** Of a tokenizer that is trained: five special tokens and 256 bytes. */
export const smallestVocabulary = 261;

/** A whole number from `least` on, also "512k" and "2M". */
export function wholeNumber(least = 1) {
  return (text: string): number => {
    const match = /^(\d+(?:\.\d+)?)([kM]?)$/.exec(text);
    const value = match ? Number(match[1]) * { "": 1, k: 1e3, M: 1e6 }[match[2] as "" | "k" | "M"] : Number.NaN;
    if (!Number.isInteger(value) || value < least) throw new InvalidArgumentError(`expected a whole number from ${least} on`);
    return value;
  };
}

/** A number above 0, or from 0 on. */
export function number({ zero = false } = {}) {
  return (text: string): number => {
    const value = Number(text);
    if (text.trim() === "" || !Number.isFinite(value) || value < 0 || (value === 0 && !zero)) {
      throw new InvalidArgumentError(`expected a number ${zero ? "from 0 on" : "above 0"}`);
    }
    return value;
  };
}

export function dtypeOption(description: string): Option {
  return new Option("--dtype <type>", description).choices(["float32", "bfloat16"]);
}

/** Options that decide how large a step is and how it is computed. */
export function addShapeOptions(command: Command): Command {
  return command
    .option("--context <tokens>", "tokens of a window (default 512)", wholeNumber())
    .option("--windows <n>", "windows of a microbatch (default 4)", wholeNumber())
    .option("--accumulation <n>", "microbatches of a step (default 1)", wholeNumber())
    .addOption(
      new Option("--optimizer <name>", "muon: for the matrices, with AdamW for the rest (default adamw)").choices(["adamw", "muon"]),
    )
    .addOption(dtypeOption("what matrix products round their operands to (default bfloat16); weights stay float32"))
    .option("--threads <n>", "threads (default: all); results do not depend on it", wholeNumber());
}

/** Options that decide what a step computes, shared by `train` and `estimate`. */
export function addStepOptions(command: Command): Command {
  command
    .option("--from <dir>", "start from the weights and tokenizer of a checkpoint")
    .option("--tokenizer <dir>", "folder with tokenizer.json (default: that of --from, else one is trained on the data)")
    .option("--vocab-size <n>", "vocabulary of the tokenizer that is trained (default 4096)", wholeNumber(smallestVocabulary));
  return addShapeOptions(command).option("--steps <n>", "updates of the whole run", wholeNumber());
}

export function printJson(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}
