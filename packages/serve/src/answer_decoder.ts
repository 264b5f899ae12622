import type { DecodeStream, Tokenizer } from "@zaya/model";

/** Decodes what is generated after a prompt. A text goes before it where the prompt has a token that is not special, whether that is shown or not. */
export function decodeAnswer(
  tokenizer: Tokenizer,
  promptIds: readonly number[],
  { skipSpecialTokens }: { readonly skipSpecialTokens: boolean | undefined },
): DecodeStream {
  const continues = promptIds.some((id) => !tokenizer.specialTokenIds.has(id));
  return tokenizer.decodeStream({ skipSpecialTokens, continues });
}
