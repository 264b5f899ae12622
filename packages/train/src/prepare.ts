// What a run needs before its first step, from its options: the tokenizer, the configuration and the tokens.
import { stat } from "node:fs/promises";
import { join } from "node:path";
import {
  loadCheckpoint,
  loadTokenizer,
  type ModelConfig,
  makeFolder,
  presets,
  readTokenizerFiles,
  type TokenizerFiles,
  trainTokenizer,
} from "@zaya/model";
import type { Corpus } from "./corpus.js";
import { readDocuments } from "./documents.js";
import { fail } from "./errors.js";
import { documentLength, tokeniseFor } from "./evaluate.js";
import { runPaths, writeAtomically } from "./files.js";
import { expectRoom, planTraining } from "./memory.js";
import type { ParsedOptions } from "./options.js";
import { tokenizerOf } from "./tokenizer_files.js";
import { cutWindows, splitDocuments, type Windows } from "./windows.js";

export interface Prepared extends AsyncDisposable {
  readonly config: ModelConfig;
  readonly tokenizerFiles: TokenizerFiles;
  readonly corpus: Corpus;
  readonly training: Windows;
  /** The held-out documents of one evaluation; null when nothing is held out. */
  readonly heldOut: Windows | null;
  /** Those documents as lines of JSONL, with the text that the tokenizer gives back: {@link readDocuments} makes the same documents of them. */
  heldOutRecords(): Promise<string>;
}

/** The configuration of a preset, a given one, or that of a checkpoint: with the vocabulary of the tokenizer where it is a preset, with room for `context` unless given. */
export async function resolveConfig(
  { model, from, context }: Pick<ParsedOptions, "model" | "from" | "context">,
  tokenizerFiles: TokenizerFiles | null,
): Promise<ModelConfig> {
  if (from !== undefined) {
    await using checkpoint = await loadCheckpoint(from);
    return { ...checkpoint.config, maxPositions: Math.max(checkpoint.config.maxPositions, context) };
  }
  if (typeof model === "object") return model;
  const preset = presets[model as keyof typeof presets] as ModelConfig | undefined;
  if (!preset) fail("INVALID_OPTIONS", `model: there is no preset "${model}"; there are ${Object.keys(presets).join(", ")}`);
  const maxPositions = Math.max(preset.maxPositions, context);
  if (!tokenizerFiles) return { ...preset, maxPositions };
  const tokenizer = await loadTokenizer(tokenizerFiles);
  return {
    ...preset,
    maxPositions,
    vocabSize: tokenizer.vocabSize,
    bosTokenId: tokenizer.bosTokenId,
    eosTokenIds: tokenizer.eosTokenId === null ? [] : [tokenizer.eosTokenId],
    padTokenId: tokenizer.padTokenId,
  };
}

/**
 * Prepares a new run, or one that has begun: that keeps its tokenizer.
 *
 * @throws INVALID_OPTIONS, INVALID_DATA
 */
export async function prepare(options: ParsedOptions, { begun }: { readonly begun: boolean }): Promise<Prepared> {
  const { out, context, heldOut: fraction, evaluateTokens, signal } = options;
  for (const file of options.data) await stat(file).catch((cause) => fail("INVALID_DATA", `${file}: no such file`, cause));
  await resolveConfig(options, null);
  const tokenizerFiles = await prepareTokenizer(options, begun);
  const config = await resolveConfig(options, tokenizerFiles);
  expectRoom("a step", await planTraining(config, options));
  const corpus = await tokeniseFor(config, {
    tokenizerFiles,
    files: options.data,
    fields: options.fields,
    context,
    cache: options.cache ?? runPaths(out).tokens,
    signal,
  });
  const split = splitDocuments(corpus.numDocuments, fraction);
  const training = cutWindows(corpus, split.training, context);
  if (training.trainable === 0) fail("INVALID_DATA", "the files hold no two tokens to train on");
  let tokens = 0;
  const evaluated = split.heldOut.filter((document) => {
    const size = (corpus.starts[document + 1] as number) - (corpus.starts[document] as number);
    const fits = tokens === 0 || tokens + size <= evaluateTokens;
    if (fits) tokens += size;
    return fits;
  });
  const heldOut = cutWindows(corpus, evaluated, context);
  async function heldOutRecords(): Promise<string> {
    const tokenizer = await loadTokenizer(tokenizerFiles);
    const records: string[] = [];
    for (const document of evaluated) {
      const ids = await corpus.read(corpus.starts[document] as number, corpus.starts[document + 1] as number);
      const continues = tokenizer.eosTokenId !== null && ids.at(-1) !== tokenizer.eosTokenId;
      records.push(`${JSON.stringify({ text: tokenizer.decode([...ids]), ...(continues ? { continues } : {}) })}\n`);
    }
    return records.join("");
  }
  return {
    config,
    tokenizerFiles,
    corpus,
    training,
    heldOut: heldOut.numPairs > 0 ? heldOut : null,
    heldOutRecords,
    [Symbol.asyncDispose]: () => corpus[Symbol.asyncDispose](),
  };
}

async function prepareTokenizer(options: ParsedOptions, begun: boolean): Promise<TokenizerFiles> {
  const { tokenizer, from, out, vocabSize, data, fields, context, signal } = options;
  const given = tokenizer ?? from;
  if (given !== undefined) {
    return await tokenizerOf(given, given === tokenizer ? "" : "; name its folder with the option tokenizer");
  }
  const folder = runPaths(out).tokenizer;
  // What a call that failed before its run began has left may be of other texts.
  const made = begun ? await readTokenizerFiles(folder) : {};
  if (made["tokenizer.json"] !== undefined) return made;
  async function* texts(): AsyncGenerator<string> {
    for await (const { text } of readDocuments(data, { fields, maxLength: documentLength(context) })) yield text;
  }
  const files = await trainTokenizer(texts(), { vocabSize, signal });
  await makeFolder(folder);
  // tokenizer.json last: with it the tokenizer is complete.
  for (const name of Object.keys(files).sort((a, b) => Number(a === "tokenizer.json") - Number(b === "tokenizer.json"))) {
    await writeAtomically(join(folder, name), files[name] as string | Uint8Array);
  }
  return await readTokenizerFiles(folder);
}
