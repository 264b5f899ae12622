import type { Tokenizer } from "@zaya/model";

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
/** Of each tokenizer's ids: an answer may list millions of tokens. */
const known = new WeakMap<Tokenizer, string[]>();

/** A token as a string of its own; one that is not whole UTF-8 as `bytes:\xe2\x80`, so that different tokens stay different. */
export function tokenText(tokenizer: Tokenizer, id: number): string {
  const texts = known.get(tokenizer) ?? [];
  known.set(tokenizer, texts);
  const text = texts[id] ?? textOf(tokenizer.tokenBytes(id));
  texts[id] = text;
  return text;
}

function textOf(bytes: Uint8Array): string {
  try {
    return utf8.decode(bytes);
  } catch {
    return `bytes:${Array.from(bytes, (byte) => `\\x${byte.toString(16).padStart(2, "0")}`).join("")}`;
  }
}
