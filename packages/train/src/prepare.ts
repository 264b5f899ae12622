// What a run needs before its first step, from its options: the tokenizer, the configuration and the tokens.
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { isZayaError } from "@zaya/kernels";
import {
  loadCheckpoint,
  loadTokenizer,
  type ModelConfig,
  parseConfig,
  presets,
  saveTokenizer,
  type TokenizerFiles,
  trainTokenizer,
} from "@zaya/model";
import type { RunCheckpoint } from "./checkpoint.js";
import type { Corpus } from "./corpus.js";
import { expectDistinct, readDocuments } from "./documents.js";
import { fail } from "./errors.js";
import { documentLength, tokeniseFor } from "./evaluate.js";
import { readJson, runPaths } from "./files.js";
import { expectRoom, planTraining } from "./memory.js";
import type { ParsedOptions } from "./options.js";
import { tokenizerOf } from "./tokenizer_files.js";
import { cutWindows, shuffleDocuments, splitDocuments, type Windows } from "./windows.js";

interface PreparedModel {
  readonly config: ModelConfig;
  readonly tokenizerFiles: TokenizerFiles;
}

export interface Prepared extends PreparedModel, AsyncDisposable {
  readonly corpus: Corpus;
  /** The files to evaluate on, where there are any. */
  readonly evaluation: Corpus | null;
  readonly training: Windows;
  /** The documents of one evaluation, of that or held out; null when there are none. */
  readonly heldOut: Windows | null;
  /** Why nothing is held out although a share was asked for. */
  readonly notHeldOut: string | null;
  /** Those documents as lines of JSONL, with the text that the tokenizer gives back: {@link readDocuments} makes the same documents of them. */
  heldOutRecords(): Promise<string>;
}

/**
 * The configuration of a preset, a given one, or that of a checkpoint. A preset has the vocabulary of the tokenizer; a preset and a checkpoint have
 * room for `context`, and the tokens that begin, end and pad a text are those of the tokenizer, where there is another than the checkpoint's own.
 *
 * @throws INVALID_OPTIONS where there is no such preset, or a given configuration has less room than `context`
 */
export async function resolveConfig(
  { model, from, context }: Pick<ParsedOptions, "model" | "from" | "context">,
  tokenizerFiles: TokenizerFiles | null,
): Promise<ModelConfig> {
  if (typeof model === "object") {
    if (model.maxPositions < context)
      fail(
        "INVALID_OPTIONS",
        `context: ${context} tokens are more than model.maxPositions, ${model.maxPositions}; raise it, or take less context`,
      );
    return model;
  }
  const base = from === undefined ? presetOf(model) : await configOf(from);
  const maxPositions = Math.max(base.maxPositions, context);
  if (!tokenizerFiles) return { ...base, maxPositions };
  const { vocabSize, bosTokenId, eosTokenId, padTokenId } = await loadTokenizer(tokenizerFiles);
  return {
    ...base,
    maxPositions,
    vocabSize: from === undefined ? vocabSize : base.vocabSize,
    bosTokenId,
    eosTokenIds: eosTokenId === null ? [] : [eosTokenId],
    padTokenId,
  };
}

function presetOf(name = ""): ModelConfig {
  if (Object.hasOwn(presets, name)) return presets[name as keyof typeof presets];
  fail("INVALID_OPTIONS", `model: there is no preset "${name}"; there are ${Object.keys(presets).join(", ")}`);
}

async function configOf(dir: string): Promise<ModelConfig> {
  await using checkpoint = await loadCheckpoint(dir);
  return checkpoint.config;
}

/**
 * Prepares a new run, or one that goes on from its newest checkpoint.
 *
 * @throws INVALID_OPTIONS, INVALID_DATA, CHECKPOINT_DAMAGED
 */
export async function prepare(options: ParsedOptions, latest: Pick<RunCheckpoint, "path" | "state"> | null): Promise<Prepared> {
  const { context, heldOut: fraction, evaluateTokens } = options;
  await expectFiles(options);
  const { config, tokenizerFiles } = await prepareModel(options, latest?.path ?? null);
  expectRoom("a step", await planTraining(config, options));
  const corpus = await tokeniseData(options, { config, tokenizerFiles }, latest?.state.data);
  const evaluation = await tokeniseEvaluation(options, { config, tokenizerFiles });
  const split = splitDocuments(corpus.starts, fraction);
  const training = cutWindows(corpus, split.training, context);
  if (training.count === 0) fail("INVALID_DATA", "the files hold no two tokens to train on");
  const source = evaluation ?? corpus;
  let tokens = 0;
  const evaluated = (evaluation ? [...shuffleDocuments(evaluation.numDocuments)] : split.heldOut).filter((document) => {
    const size = (source.starts[document + 1] as number) - (source.starts[document] as number);
    const fits = tokens === 0 || tokens + size <= evaluateTokens;
    if (fits) tokens += size;
    return fits;
  });
  const heldOut = cutWindows(source, evaluated, context);
  if (evaluation && heldOut.numPairs === 0) fail("INVALID_DATA", `${options.evaluationData?.join(", ")}: there is no token to predict`);
  async function heldOutRecords(): Promise<string> {
    const tokenizer = await loadTokenizer(tokenizerFiles);
    const { bosTokenId, eosTokenId } = tokenizer;
    const records: string[] = [];
    for (const document of evaluated) {
      const ids = await source.read(source.starts[document] as number, source.starts[document + 1] as number);
      const continues = eosTokenId !== null && ids.at(-1) !== eosTokenId;
      const written = [...ids].slice(bosTokenId === null ? 0 : 1, eosTokenId === null || continues ? undefined : -1);
      const text = tokenizer.decode(written, { skipSpecialTokens: false });
      records.push(`${JSON.stringify({ text, ...(continues ? { continues } : {}) })}\n`);
    }
    return records.join("");
  }
  return {
    config,
    tokenizerFiles,
    corpus,
    evaluation,
    training,
    heldOut: heldOut.numPairs > 0 ? heldOut : null,
    notHeldOut: fraction === 0 || heldOut.numPairs > 0 ? null : whyNothing(corpus, context),
    heldOutRecords,
    async [Symbol.asyncDispose]() {
      await corpus[Symbol.asyncDispose]();
      await evaluation?.[Symbol.asyncDispose]();
    },
  };
}

/** @throws INVALID_DATA where a file is missing or named twice */
async function expectFiles({ data, evaluationData = [], resume }: ParsedOptions): Promise<void> {
  for (const [option, files] of Object.entries({ data, evaluationData })) {
    const advice = resume ? `; where the run's data has moved, name its files with the option ${option}` : "";
    for (const file of files) await stat(file).catch((cause) => fail("INVALID_DATA", `${file}: no such file${advice}`, cause));
  }
  await expectDistinct([...data, ...evaluationData]);
}

/** The data of a run. A single document is cut so that a share is held out, except where `saved`, what a run was trained on, is the whole. */
async function tokeniseData(
  { data: files, fields, context, heldOut, out, cache = runPaths(out).tokens, signal }: ParsedOptions,
  { config, tokenizerFiles }: PreparedModel,
  saved: string | undefined,
): Promise<Corpus> {
  const options = { tokenizerFiles, files, fields, context, cache, signal };
  const whole = await tokeniseFor(config, options);
  if (heldOut === 0 || !canBeCut(whole, context) || whole.fingerprint === saved) return whole;
  return await tokeniseFor(config, { ...options, tail: heldOut });
}

async function tokeniseEvaluation(
  { evaluationData: files, fields, context, out, cache = runPaths(out).tokens, signal }: ParsedOptions,
  { config, tokenizerFiles }: PreparedModel,
): Promise<Corpus | null> {
  return files ? await tokeniseFor(config, { tokenizerFiles, files, fields, context, cache, signal }) : null;
}

function canBeCut({ numDocuments, numTokens }: Corpus, context: number): boolean {
  return numDocuments === 1 && numTokens > 2 * context;
}

function whyNothing(corpus: Corpus, context: number): string {
  if (corpus.numDocuments > 1) return "no held-out document has a token to predict";
  if (canBeCut(corpus, context)) return "this run began without";
  return `the text is one document of ${corpus.numTokens} tokens, and two windows of ${context} are needed`;
}

/** Those of the run's newest checkpoint, whatever has become of what it started from; before there is one, those of the options. */
async function prepareModel(options: ParsedOptions, checkpoint: string | null): Promise<PreparedModel> {
  if (checkpoint !== null) return await modelIn(checkpoint);
  const { tokenizer, from } = options;
  const config = await resolveConfig(options, null); // so that what is wrong with it is told before a tokenizer is trained
  if (tokenizer === undefined && from !== undefined) {
    return { config, tokenizerFiles: await tokenizerOf(from, "; name its folder with the option tokenizer") };
  }
  const tokenizerFiles = tokenizer === undefined ? await trainedTokenizer(options) : await tokenizerOf(tokenizer);
  return { config: await resolveConfig(options, tokenizerFiles), tokenizerFiles };
}

/** Of a checkpoint whose files are not checked yet: that comes with the weights. */
async function modelIn(checkpoint: string): Promise<PreparedModel> {
  try {
    const config = parseConfig(await readJson(join(checkpoint, "config.json")));
    const tokenizerFiles = await tokenizerOf(checkpoint);
    await loadTokenizer(tokenizerFiles);
    return { config, tokenizerFiles };
  } catch (cause) {
    if (!isZayaError(cause)) throw cause;
    fail("CHECKPOINT_DAMAGED", `${cause.message}; remove ${checkpoint} to go on from what was saved before`, cause);
  }
}

/** Made of the texts that are there now: a run without a checkpoint begins at its first step, and its data may have changed. */
async function trainedTokenizer({ out, vocabSize, data, fields, context, signal }: ParsedOptions): Promise<TokenizerFiles> {
  async function* texts(): AsyncGenerator<string> {
    for await (const { text } of readDocuments(data, { fields, maxLength: documentLength(context) })) yield text;
  }
  const files = await trainTokenizer(texts(), { vocabSize, signal });
  await saveTokenizer(runPaths(out).tokenizer, files);
  return files;
}
