import { join } from "node:path";
import { z } from "zod";
import { fail } from "../errors.js";
import { makeFolder } from "../make_folder.js";
import { writeFileAtomically } from "../safetensors_writer.js";
import type { TokenizerFiles } from "../save.js";
import { createByteBuffer, createJsonCursor, type JsonCursor, textOfBytes } from "./json_cursor.js";
import { type Merges, readMerges } from "./merges.js";
import { largestId, readVocabulary, type Vocabulary } from "./vocabulary.js";

/** Of a checkpoint's files those that go into every copy of it, beside configuration and weights. */
export const tokenizerFileNames: readonly string[] = [
  "tokenizer.json",
  "tokenizer_config.json",
  "tokenizer.model",
  "special_tokens_map.json",
  "added_tokens.json",
  "chat_template.jinja",
  "generation_config.json",
];

/** @throws INVALID_ARGUMENT naming a file that is none of a tokenizer's, or has no content */
export function expectTokenizerFiles(files: TokenizerFiles): void {
  for (const [name, content] of Object.entries(files)) {
    if (!tokenizerFileNames.includes(name))
      fail("INVALID_ARGUMENT", `tokenizerFiles takes ${tokenizerFileNames.join(", ")}, received ${JSON.stringify(name)}`);
    if (typeof content !== "string" && !((content as unknown) instanceof Uint8Array))
      fail("INVALID_ARGUMENT", `tokenizerFiles: ${name} takes a string or a Uint8Array, received ${typeof content}`);
  }
}

/**
 * Writes a tokenizer's files into a directory, which `loadTokenizer` then opens.
 * @throws INVALID_ARGUMENT naming a file that is none of a tokenizer's
 */
export async function saveTokenizer(dir: string, files: TokenizerFiles): Promise<void> {
  expectTokenizerFiles(files);
  await makeFolder(dir);
  for (const [name, content] of Object.entries(files)) await writeFileAtomically(join(dir, name), content);
}

/** The text of one file, or undefined. */
export function textOf(files: TokenizerFiles, name: string): string | undefined {
  const content = files[name];
  return content === undefined || typeof content === "string" ? content : new TextDecoder().decode(content);
}

function parse(text: string, name: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    fail("TOKENIZER_INVALID", `${name} is not JSON: ${(cause as Error).message}`, cause);
  }
}

const component = z.looseObject({ type: z.string() }).nullish().default(null);
const flag = z
  .boolean()
  .nullish()
  .transform((value) => value ?? false);

const tokenizerJsonSchema = z.object({
  added_tokens: z
    .array(
      z.object({
        id: z.int().min(0).max(largestId),
        content: z.string(),
        special: flag,
        normalized: flag,
        lstrip: flag,
        rstrip: flag,
        single_word: flag,
      }),
    )
    .default([]),
  normalizer: component,
  pre_tokenizer: component,
  post_processor: component,
  decoder: component,
  model: z.object({
    type: z.string().default("BPE"),
    /** Empty here: both are read into tables of their own. */
    vocab: z.strictObject({}),
    merges: z.tuple([]).default([]),
    dropout: z.number().nullish(),
    unk_token: z.string().nullish().default(null),
    continuing_subword_prefix: z.string().nullish(),
    end_of_word_suffix: z.string().nullish(),
    fuse_unk: flag,
    byte_fallback: flag,
    ignore_merges: flag,
  }),
});

/** The parts of tokenizer.json that are read, its vocabulary and merges aside. */
export type TokenizerJson = z.infer<typeof tokenizerJsonSchema>;

/** A tokenizer.json as it is used. */
export interface TokenizerFile {
  readonly json: TokenizerJson;
  readonly vocabulary: Vocabulary;
  readonly merges: Merges;
}

const tokenName = z
  .union([z.string(), z.object({ content: z.string() }).transform((token) => token.content)])
  .nullish()
  .transform((name) => name ?? null);

const tokenizerConfigSchema = z.object({
  bos_token: tokenName,
  eos_token: tokenName,
  pad_token: tokenName,
  unk_token: tokenName,
  add_bos_token: z.boolean().nullish(),
  chat_template: z.union([z.string(), z.array(z.object({ name: z.string(), template: z.string() }))]).nullish(),
});

/** The parts of tokenizer_config.json that are read. */
export type TokenizerConfig = z.infer<typeof tokenizerConfigSchema>;

/** Reads and checks tokenizer.json. Throws TOKENIZER_INVALID with the path of what is wrong; `where` the files are is for the message. */
export function readTokenizerJson(files: TokenizerFiles, where: string): TokenizerFile {
  const content = files["tokenizer.json"];
  if (content === undefined)
    fail("TOKENIZER_INVALID", `there is no tokenizer.json in ${where}; a checkpoint needs one to be used with text`);
  try {
    const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
    const { rest, vocabulary = readVocabulary(textCursor("{}")), merges } = splitTokenizerJson(bytes);
    const json = check(tokenizerJsonSchema, parse(rest, "tokenizer.json"), "tokenizer.json");
    if (json.model.type !== "BPE") fail("TOKENIZER_INVALID", `tokenizer.json: model of type ${json.model.type} is not supported, only BPE`);
    if (json.model.continuing_subword_prefix || json.model.end_of_word_suffix) {
      fail("TOKENIZER_INVALID", "tokenizer.json: a BPE model with continuing_subword_prefix or end_of_word_suffix is not supported");
    }
    return { json, vocabulary, merges: merges ?? readMerges(textCursor("[]"), vocabulary) };
  } catch (cause) {
    if (cause instanceof SyntaxError) parse(textOf(files, "tokenizer.json") as string, "tokenizer.json");
    if (cause instanceof SyntaxError || cause instanceof RangeError) fail("TOKENIZER_INVALID", `tokenizer.json: ${cause.message}`, cause);
    throw cause;
  }
}

/**
 * Reads vocabulary and merges straight into tables, and leaves the rest of the text with nothing in their places. Nine tenths of a file of 33 MB
 * are these two; as objects they take three quarters of a second to parse and as long again to go through (Zen 4, 2026-11).
 */
function splitTokenizerJson(bytes: Uint8Array): { rest: string; vocabulary?: Vocabulary; merges?: Merges } {
  const cursor = createJsonCursor(bytes);
  const key = createByteBuffer();
  let vocabulary: Vocabulary | undefined;
  let merges: Merges | undefined;
  let mergesAt = -1;
  let rest = "";
  let copied = 0;
  /** Leaves out what `read` goes past, but for its brackets. */
  const cut = (read: () => void) => {
    const from = cursor.at() + 1;
    read();
    rest += textOfBytes(bytes.subarray(copied, from));
    copied = cursor.at() - 1;
  };
  const takeKey = (): string => {
    const name = textOfBytes(key.bytes.subarray(0, key.length));
    key.length = 0;
    return name;
  };
  const visitModel = () => {
    const name = takeKey();
    const first = cursor.peek();
    if (name === "vocab" && first === openBrace) {
      cut(() => {
        vocabulary = readVocabulary(cursor);
      });
    } else if (name === "merges" && first === openBracket) {
      mergesAt = cursor.at();
      cut(() => {
        if (vocabulary) merges = readMerges(cursor, vocabulary);
        else cursor.skip();
      });
    } else cursor.skip();
  };
  cursor.forEachKey(key, () => {
    if (takeKey() === "model" && cursor.peek() === openBrace) cursor.forEachKey(key, visitModel);
    else cursor.skip();
  });
  rest += textOfBytes(bytes.subarray(copied));
  if (vocabulary && !merges && mergesAt >= 0) {
    cursor.seek(mergesAt);
    merges = readMerges(cursor, vocabulary);
  }
  return { rest, ...(vocabulary && { vocabulary }), ...(merges && { merges }) };
}

const openBrace = 0x7b;
const openBracket = 0x5b;

function textCursor(text: string): JsonCursor {
  return createJsonCursor(new TextEncoder().encode(text));
}

/** Reads and checks tokenizer_config.json; absent means empty. */
export function readTokenizerConfig(files: TokenizerFiles): TokenizerConfig {
  return check(
    tokenizerConfigSchema,
    parse(textOf(files, "tokenizer_config.json") ?? "{}", "tokenizer_config.json"),
    "tokenizer_config.json",
  );
}

function check<T>(schema: z.ZodType<T>, json: unknown, name: string): T {
  const result = schema.safeParse(json);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  fail("TOKENIZER_INVALID", `${name}: ${issue?.path.join(".") || "the file"}: ${issue?.message}`, result.error);
}
