import { readdir, rm, rmdir } from "node:fs/promises";
import { join } from "node:path";
import { loadTokenizer, saveTokenizer, trainTokenizer } from "@zaya/model";
import { expectNoCheckpoint, makeFolder, takeLock, tokenizerFileNames } from "@zaya/model/internal";
import { expectFormats, readDocuments } from "@zaya/train";
import type { Command } from "commander";
import { interruptible } from "../../terminal/src/interrupt.js";
import { printJson, smallestVocabulary, wholeNumber } from "./commands.js";
import { InputError } from "./exit.js";

export function addTokenizerCommand(program: Command): void {
  program
    .command("tokenizer")
    .summary("make a tokenizer: tokenizer train")
    .command("train")
    .summary("train a byte-level BPE tokenizer")
    .description(
      "Trains a byte-level BPE tokenizer on text files and writes tokenizer.json and tokenizer_config.json, which transformers reads too.",
    )
    .argument("<files...>", "text and .jsonl files")
    .requiredOption("-o, --out <dir>", "folder of the tokenizer")
    .option("--vocab-size <n>", "tokens in all", wholeNumber(smallestVocabulary), 4096)
    .option("--fields <names>", "comma-separated keys of a JSONL record (default text)", (text) => text.split(","))
    .option("--max-bytes <n>", "read about this much text at most", wholeNumber())
    .option("--overwrite", "replace a tokenizer that is there")
    .option("--json", "print the result as JSON")
    .action(async (files: string[], { out, vocabSize, fields, maxBytes, overwrite = false, json }) => {
      await expectRoomFor(out, overwrite);
      expectFormats(files, fields);
      async function* texts(): AsyncGenerator<string> {
        let found = false;
        for await (const { text } of readDocuments(files, { fields: fields ?? ["text"], maxLength: 65536 })) {
          found = true;
          yield text;
        }
        if (!found) throw new InputError(`no text in ${files.join(", ")}`);
      }
      const tokenizer = await alone(out, async () => {
        await expectRoomFor(out, overwrite);
        const made = await interruptible("stopped", (signal) => trainTokenizer(texts(), { vocabSize, maxBytes, signal }));
        await saveTokenizer(out, made);
        // Only now: a full disk leaves the tokenizer of before.
        if (overwrite) for (const name of tokenizerFileNames) if (!(name in made)) await rm(join(out, name), { force: true });
        return await loadTokenizer(out);
      });
      if (json) printJson({ out, vocabSize: tokenizer.vocabSize });
      else process.stdout.write(`${out}: ${tokenizer.vocabSize} tokens\n`);
    });
}

/** Does work in a folder while no other process does the same, and leaves no empty folder that was not there before. */
async function alone<T>(out: string, work: () => Promise<T>): Promise<T> {
  const isNew = (await readdir(out).catch(() => null)) === null;
  await makeFolder(out);
  try {
    await using _lock = await takeLock(join(out, "tokenizer.lock"), {
      code: "CHECKPOINT_LOCKED",
      doing: "training a tokenizer into this folder",
    });
    return await work();
  } catch (error) {
    if (isNew) await rmdir(out).catch(() => {}); // something is in it
    throw error;
  }
}

/** Refuses the folder of a checkpoint or a run, and that of a tokenizer unless it is to be replaced. */
async function expectRoomFor(out: string, overwrite: boolean): Promise<void> {
  await expectNoCheckpoint(out);
  const names = await readdir(out).catch(() => [] as string[]);
  if (names.includes("run.json")) throw new InputError(`${out} holds a run already (run.json); choose another folder`);
  if (names.includes("tokenizer.json") && !overwrite)
    throw new InputError(`${out} holds a tokenizer already (tokenizer.json); choose another folder or ask to overwrite it`);
}
