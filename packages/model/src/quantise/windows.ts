import { expectWholeNumber, fail } from "../errors.js";
import type { TokenizerFiles } from "../save.js";
import { loadTokenizer, type Tokenizer } from "../tokenizer/tokenizer.js";

export interface WindowOptions {
  /** Tokens that are read together, at least 2. Default 512. */
  readonly context?: number | undefined;
  /** Tokens of the text that are taken, from its beginning. Default: all. */
  readonly maxTokens?: number | undefined;
}

/**
 * The tokenizer of a checkpoint whose embedding has `rows` rows.
 * @throws TOKENIZER_INVALID, or INVALID_ARGUMENT where it has ids that the model has not
 */
export async function tokenizerFor(files: TokenizerFiles, rows: number): Promise<Tokenizer> {
  const tokenizer = await loadTokenizer(files);
  if (tokenizer.vocabSize > rows)
    fail(
      "INVALID_ARGUMENT",
      `the tokenizer has ids up to ${tokenizer.vocabSize - 1}, the model ${rows} rows; the checkpoint needs the tokenizer it was made with`,
    );
  return tokenizer;
}

/**
 * A text as windows of token ids, each read from its own beginning, every one starting with the token for the beginning of a text where
 * the tokenizer has one.
 *
 * @throws INVALID_ARGUMENT when the text holds no two tokens, or `context` is no whole number ≥ 2, or `maxTokens` none ≥ 1
 */
export function textWindows(
  tokenizer: Pick<Tokenizer, "bosTokenId" | "encode">,
  text: string,
  { context = 512, maxTokens }: WindowOptions = {},
): readonly Int32Array[] {
  expectWholeNumber("context", context, 2);
  if (maxTokens !== undefined) expectWholeNumber("maxTokens", maxTokens, 1);
  const { bosTokenId } = tokenizer;
  const ids = tokenizer.encode(text, { addSpecialTokens: false }).slice(0, maxTokens);
  const start = bosTokenId === null ? [] : [bosTokenId];
  const step = context - start.length;
  const windows: Int32Array[] = [];
  for (let begin = 0; begin < ids.length; begin += step) {
    const body = ids.slice(begin, begin + step);
    const window = new Int32Array(start.length + body.length);
    window.set(start);
    window.set(body, start.length);
    windows.push(window);
  }
  const whole = windows.filter((window) => window.length > 1);
  if (whole.length === 0) fail("INVALID_ARGUMENT", "the text holds no two tokens to measure with");
  return whole;
}

/** Tokens of the longest window. */
export function longestWindow(windows: readonly Int32Array[]): number {
  return windows.reduce((longest, { length }) => Math.max(longest, length), 0);
}

/** The ragged inputs of one window. */
export function windowInputs(ids: Int32Array): Record<"ids" | "positions" | "cu_seqlens", Int32Array> {
  return { ids, positions: Int32Array.from(ids, (_, t) => t), cu_seqlens: Int32Array.of(0, ids.length) };
}
