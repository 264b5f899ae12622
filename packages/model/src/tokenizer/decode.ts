import { fail } from "../errors.js";
import { byteOfToken } from "./bpe.js";
import { fromByteCharacters } from "./byte_level.js";
import type { TokenizerJson } from "./files.js";

/** Bytes that a token adds to a text. */
type TokenBytes = (token: string) => Uint8Array;

/** How the `decoder` of a tokenizer.json turns tokens into bytes. */
interface Detokenizer {
  readonly tokenBytes: TokenBytes;
  /** The reference drops one space at the very start of a text. */
  readonly dropsFirstSpace: boolean;
}

const utf8 = new TextEncoder();

/**
 * Reads the decoder: ByteLevel (GPT-2, Llama 3, Qwen, our own), or a sequence of Replace, ByteFallback, Fuse and Strip
 * (Gemma, Llama 2). Throws TOKENIZER_INVALID for any other.
 */
export function createDetokenizer(decoder: TokenizerJson["decoder"]): Detokenizer {
  if (decoder === null) return { tokenBytes: (token) => utf8.encode(token), dropsFirstSpace: false };
  const steps: unknown = decoder.type === "Sequence" ? decoder.decoders : [decoder];
  if (!isListOfObjects(steps)) fail("TOKENIZER_INVALID", "tokenizer.json: decoder.decoders: expected a list of decoders");
  if (steps.some((step) => step.type === "ByteLevel")) return { tokenBytes: fromByteCharacters, dropsFirstSpace: false };

  const replacements: [from: string, to: string][] = [];
  let byteFallback = false;
  let dropsFirstSpace = false;
  for (const step of steps) {
    const pattern = (step.pattern as { String?: string } | undefined)?.String;
    if (step.type === "Replace" && pattern !== undefined) replacements.push([pattern, String(step.content ?? "")]);
    else if (step.type === "ByteFallback") byteFallback = true;
    else if (step.type === "Strip" && step.content === " " && step.start === 1 && step.stop === 0) dropsFirstSpace = true;
    else if (step.type !== "Fuse") fail("TOKENIZER_INVALID", `tokenizer.json: decoder ${JSON.stringify(step)} is not supported`);
  }
  const tokenBytes: TokenBytes = (token) => {
    const byte = byteFallback ? byteOfToken(token) : -1;
    if (byte >= 0) return Uint8Array.of(byte);
    return utf8.encode(replacements.reduce((text, [from, to]) => text.replaceAll(from, to), token));
  };
  return { tokenBytes, dropsFirstSpace };
}

function isListOfObjects(value: unknown): value is Readonly<Record<string, unknown>>[] {
  return Array.isArray(value) && value.every((each) => typeof each === "object" && each !== null);
}

/** Decodes ids as they come. */
export interface DecodeStream {
  /** The text these ids complete; a character whose bytes are not all there yet is kept back. */
  push(...ids: readonly number[]): string;
  /** What was kept back, as U+FFFD, and a fresh start. */
  flush(): string;
}

/**
 * Starts a stream over a function that gives the bytes of an id (empty for ids to leave out). What `push` and `flush` return,
 * joined, is what decoding all ids at once gives: invalid bytes become U+FFFD, one for each maximal invalid sequence.
 */
export function createDecodeStream(bytesOf: (id: number) => Uint8Array, dropsFirstSpace: boolean): DecodeStream {
  let decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  let atStart = dropsFirstSpace;

  function withoutFirstSpace(text: string): string {
    if (!atStart || text.length === 0) return text;
    atStart = false;
    return text.startsWith(" ") ? text.slice(1) : text;
  }
  return {
    push(...ids) {
      let text = "";
      for (const id of ids) {
        const bytes = bytesOf(id);
        if (bytes.length > 0) text += decoder.decode(bytes, { stream: true });
      }
      return withoutFirstSpace(text);
    },
    flush() {
      const text = withoutFirstSpace(decoder.decode());
      decoder = new TextDecoder("utf-8", { ignoreBOM: true });
      atStart = dropsFirstSpace;
      return text;
    },
  };
}
