import { ZayaError } from "@zaya/kernels";
import type { Tokenizer } from "@zaya/model";

/**
 * Stands in where a checkpoint has no tokenizer.json: prompts are token ids, and the text of an answer is its ids, " 17 204 9".
 * Texts and conversations are refused with INVALID_REQUEST.
 */
export function createIdTokenizer(vocabSize: number, eosTokenId: number | null): Tokenizer {
  const refuse = (): never => {
    throw new ZayaError("INVALID_REQUEST", "prompt: this checkpoint has no tokenizer.json; put one into its folder, or give token ids");
  };
  const utf8 = new TextEncoder();
  const decode = (ids: readonly number[]) => ids.map((id) => ` ${id}`).join("");
  return {
    vocabSize,
    maxTokenBytes: Number.POSITIVE_INFINITY, // a text is refused for what it is, not for its length
    bosTokenId: null,
    eosTokenId,
    padTokenId: null,
    bosToken: null,
    eosToken: null,
    padToken: null,
    specialTokenIds: new Set(),
    chatTemplate: null,
    encode: refuse,
    encodePrompt: refuse,
    encodeChat: refuse,
    applyChatTemplate: refuse,
    decode,
    decodeStream: () => ({ push: (...ids) => decode(ids), flush: () => "" }),
    idToToken: (id) => (id < vocabSize ? String(id) : undefined),
    tokenToId: (token) => (/^\d+$/.test(token) && Number(token) < vocabSize ? Number(token) : undefined),
    tokenBytes: (id) => utf8.encode(decode([id])),
    byteLengths: () => Uint16Array.from({ length: vocabSize }, (_, id) => decode([id]).length),
  };
}
