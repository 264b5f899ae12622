import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { fail } from "../errors.js";
import { writeFileAtomically } from "../safetensors_writer.js";
import type { TokenizerFiles } from "../save.js";

/** Writes a tokenizer's files into a directory, which `loadTokenizer` then opens. */
export async function saveTokenizer(dir: string, files: TokenizerFiles): Promise<void> {
  await mkdir(dir, { recursive: true });
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

/** Ids above this are a damaged file: tables are made for all ids up to the highest. */
export const largestId = 2 ** 24 - 1;

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
    vocab: z.custom<Readonly<Record<string, number>>>(
      (value) => typeof value === "object" && value !== null && !Array.isArray(value),
      "expected an object",
    ),
    merges: z.custom<readonly (readonly [string, string] | string)[]>((value) => Array.isArray(value), "expected a list").default([]),
    dropout: z.number().nullish(),
    unk_token: z.string().nullish().default(null),
    continuing_subword_prefix: z.string().nullish(),
    end_of_word_suffix: z.string().nullish(),
    fuse_unk: flag,
    byte_fallback: flag,
    ignore_merges: flag,
  }),
});

/** The parts of tokenizer.json that are read. */
export type TokenizerJson = z.infer<typeof tokenizerJsonSchema>;

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
export function readTokenizerJson(files: TokenizerFiles, where: string): TokenizerJson {
  const text = textOf(files, "tokenizer.json");
  if (text === undefined) fail("TOKENIZER_INVALID", `there is no tokenizer.json in ${where}; a checkpoint needs one to be used with text`);
  return check(tokenizerJsonSchema, parse(text, "tokenizer.json"), "tokenizer.json");
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
