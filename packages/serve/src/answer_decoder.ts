import type { DecodeStream, Tokenizer } from "@zaya/model";
import { thoughtTokenIds } from "./reasoning.js";

/**
 * Decodes what is generated after a prompt. A text goes before it where the prompt has a token that is not special, whether that is shown or not. Tags by
 * which thoughts are told from answers are there even where they are special.
 */
export function decodeAnswer(
  tokenizer: Tokenizer,
  promptIds: readonly number[],
  {
    skipSpecialTokens,
    separateReasoning = false,
  }: { readonly skipSpecialTokens: boolean | undefined; readonly separateReasoning?: boolean },
): DecodeStream {
  const continues = promptIds.some((id) => !tokenizer.specialTokenIds.has(id));
  const keptTokenIds = separateReasoning ? thoughtTokenIds(tokenizer) : undefined;
  return tokenizer.decodeStream({ skipSpecialTokens, keptTokenIds, continues });
}
