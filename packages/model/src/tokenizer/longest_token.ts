import { byteTokens } from "./bpe.js";
import { byteCharacters } from "./byte_level.js";
import type { TokenizerFile, TokenizerJson } from "./files.js";

type Component = TokenizerJson["normalizer"];

/** Bytes that a character has at most: an unknown one is a token of its own. */
const characterBytes = 4;

/**
 * Bytes of a text that one token stands for at most. Infinity where there is no such number: where text may go (a normalizer that shortens, a
 * pre-tokenizer that leaves out what it splits at, characters without a token), be fused into one unknown token, or be taken along by an added one.
 */
export function bytesOfLongestToken({ json, vocabulary }: TokenizerFile, normalize: ((text: string) => string) | null): number {
  const { normalizer, pre_tokenizer, added_tokens, model } = json;
  const has = (token: string) => vocabulary.get(token) !== undefined;
  const spells =
    includesByteLevel(normalizer) || includesByteLevel(pre_tokenizer)
      ? byteCharacters.every(has)
      : model.byte_fallback && byteTokens.every(has);
  const marksEach = model.unk_token !== null && has(model.unk_token) && !model.fuse_unk;
  const takesMore = added_tokens.some(({ lstrip, rstrip }) => lstrip || rstrip);
  if (!(spells || marksEach) || takesMore || !keepsLength(normalizer) || !keepsLength(pre_tokenizer)) return Number.POSITIVE_INFINITY;
  const found = added_tokens.map(({ content, normalized }) => Buffer.byteLength(normalized && normalize ? normalize(content) : content));
  return Math.max(characterBytes, vocabulary.maxBytes, ...found);
}

/** Whether a normalizer or pre-tokenizer leaves at least as many bytes as there were, in every text. */
function keepsLength(component: Component): boolean {
  if (component === null) return true;
  const { type, pattern, content, behavior, invert } = component;
  switch (type) {
    case "Sequence":
      return membersOf(component).every(keepsLength);
    case "Replace": {
      const from = (pattern as { String?: string } | undefined)?.String;
      return from !== undefined && Buffer.byteLength(from) <= Buffer.byteLength(String(content ?? ""));
    }
    case "Split":
      return invert !== true && String(behavior).toLowerCase() !== "removed";
    default:
      return ["ByteLevel", "Digits", "Metaspace", "Prepend", "Punctuation"].includes(type);
  }
}

function includesByteLevel(component: Component): boolean {
  return component !== null && (component.type === "ByteLevel" || membersOf(component).some(includesByteLevel));
}

/** The steps of a sequence; of anything else none. */
function membersOf(component: NonNullable<Component>): Component[] {
  return (component.normalizers ?? component.pretokenizers ?? []) as Component[];
}
