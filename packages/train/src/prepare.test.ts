import { mkdtemp, readdir, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  initialise,
  loadTokenizer,
  type ModelConfig,
  presets,
  saveCheckpoint,
  saveTokenizer,
  type TokenizerFiles,
  trainTokenizer,
} from "@zaya/model";
import { beforeAll, beforeEach, expect, test } from "vitest";
import { tokeniseFor } from "./evaluate.js";
import { completeOptions, parseOptions, type TrainOptions } from "./options.js";
import { prepare, resolveConfig } from "./prepare.js";
import { randomText } from "./testing/text.js";
import { cutWindows } from "./windows.js";

const step = { context: 32, windows: 2, steps: 1 };
const config: ModelConfig = { ...presets["zaya-tiny"], vocabSize: 280, bosTokenId: 2, eosTokenIds: [1, 4], padTokenId: 0 };

let folder: string;
let texts: string;
let tokenizerFiles: TokenizerFiles;
beforeAll(async () => {
  tokenizerFiles = await trainTokenizer(randomText(20), { vocabSize: 270 });
});
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "prepare-"));
  texts = join(folder, "texts.jsonl");
  await writeFile(texts, linesOf(randomText(20)));
});

const optionsOf = (options: TrainOptions) => completeOptions(parseOptions(options), null);
const linesOf = (documents: readonly string[]) => documents.map((text) => JSON.stringify(text)).join("\n");

/** A tokenizer that ends a text with the end of a turn, and begins and pads none. */
async function saveOtherTokenizer(dir: string): Promise<void> {
  const { bos_token: _bos, pad_token: _pad, ...rest } = JSON.parse(String(tokenizerFiles["tokenizer_config.json"]));
  await saveTokenizer(dir, { ...tokenizerFiles, "tokenizer_config.json": JSON.stringify({ ...rest, eos_token: "<|im_end|>" }) });
}

test("a checkpoint that is given another tokenizer begins, ends and pads texts as that does", async () => {
  const [from, tokenizer] = [join(folder, "base"), join(folder, "tokenizer")];
  await saveCheckpoint(from, { config, tensors: initialise(config, 1), tokenizerFiles });
  await saveOtherTokenizer(tokenizer);
  const options = { ...step, from, data: [texts], out: join(folder, "run") };
  await using kept = await prepare(optionsOf(options), null);
  expect(kept.config).toMatchObject({ vocabSize: 280, bosTokenId: 2, eosTokenIds: [1, 4], padTokenId: 0 });
  await using given = await prepare(optionsOf({ ...options, tokenizer }), null);
  expect(given.config).toMatchObject({ vocabSize: 280, bosTokenId: null, eosTokenIds: [4], padTokenId: null });
});

test("refuses a configuration without room for a window, before a tokenizer is made, and gives room where it is not given", async () => {
  const [from, out] = [join(folder, "base"), join(folder, "run")];
  const model = { ...config, maxPositions: 31 };
  await expect(prepare(optionsOf({ ...step, model, data: [texts], out }), null)).rejects.toMatchObject({
    code: "INVALID_OPTIONS",
    message: "context: 32 tokens are more than model.maxPositions, 31; raise it, or take less context",
  });
  expect(await readdir(folder)).toEqual(["texts.jsonl"]);
  await saveCheckpoint(from, { config: model, tensors: initialise(model, 1), tokenizerFiles });
  expect(await resolveConfig({ model: undefined, from, context: 32 }, null)).toMatchObject({ maxPositions: 32 });
  expect(await resolveConfig({ model: "zaya-tiny", from: undefined, context: 4096 }, null)).toMatchObject({ maxPositions: 4096 });
});

test.each(["bos and eos", "no bos"])("held-out records give the tokens of the run, special ones in the text too: %s", async (kind) => {
  const tokenizer = join(folder, "tokenizer");
  await (kind === "no bos" ? saveOtherTokenizer(tokenizer) : saveTokenizer(tokenizer, tokenizerFiles));
  const chat = randomText(200).map((text, i) => `<bos><|im_start|>user\n${text}<|im_end|>\n<|im_start|>assistant\n${i}<|im_end|>\n<eos>`);
  const long = join(folder, "long.txt");
  await writeFile(texts, linesOf(chat.slice(0, 20)));
  await writeFile(long, chat.join("")); // is cut into documents
  const options = { ...step, model: "zaya-tiny", data: [texts, long], tokenizer, heldOut: 0.5, evaluateTokens: 1e6 };
  await using run = await prepare(optionsOf({ ...options, out: join(folder, "run") }), null);

  const records = join(folder, "held-out.jsonl");
  await writeFile(records, await run.heldOutRecords());
  await using corpus = await tokeniseFor(run.config, {
    tokenizerFiles: run.tokenizerFiles,
    files: [records],
    fields: ["text"],
    context: step.context,
    cache: folder,
  });
  const all = Array.from({ length: corpus.numDocuments }, (_, document) => document);
  const again = cutWindows(corpus, all, step.context);
  expect(await corpus.read(0, corpus.numTokens)).toContain((await loadTokenizer(tokenizer)).tokenToId("<|im_start|>"));
  expect([again.count, again.numBytes]).toEqual([run.heldOut?.count, run.heldOut?.numBytes]);
  const windows = Array.from({ length: again.count }, (_, window) => window);
  expect(await again.batch(windows)).toEqual(await run.heldOut?.batch(windows));
});
