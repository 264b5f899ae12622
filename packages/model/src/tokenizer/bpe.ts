// Byte-pair encoding: of all neighbouring symbols of a word, the pair with the lowest rank (earliest in `merges`) is joined first,
// the leftmost of equals, until no pair is in the list. Same ids as the reference for every vocabulary.
import type { Merges } from "./merges.js";
import type { Vocabulary } from "./vocabulary.js";

/** The `model` of a tokenizer.json of type BPE. */
export interface BpeModel {
  readonly vocab: Vocabulary;
  readonly merges: Merges;
  readonly unknownToken: string | null;
  /** Join neighbouring unknown tokens into one. */
  readonly fuseUnknown: boolean;
  /** Characters outside the vocabulary become their UTF-8 bytes, written `<0x0A>`. */
  readonly byteFallback: boolean;
  /** A word that is a token is that token, whatever the merges say. */
  readonly ignoreMerges: boolean;
}

/** Encodes one word (what the pre-tokenizer cut out) to ids. */
export type WordEncoder = (word: string) => readonly number[];

const longestCached = 64;
const cachedWords = 1 << 18;
/** The byte-fallback token of each byte. */
export const byteTokens: readonly string[] = Array.from(
  { length: 256 },
  (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`,
);
/** SentencePiece's mark for a space. */
const spaceMark = "\u2581";
const utf8 = new TextEncoder();

/** The byte a byte-fallback token stands for, or -1. */
export function byteOfToken(token: string): number {
  return token.length === 6 && /^<0x[0-9A-Fa-f]{2}>$/.test(token) ? Number.parseInt(token.slice(3, 5), 16) : -1;
}

/**
 * Prepares the tables and returns the encoder, which remembers the words it has seen.
 * `spell` writes a word in the characters of the vocabulary; a word seen before is not spelt again.
 */
export function createWordEncoder(model: BpeModel, spell: (word: string) => string = (word) => word): WordEncoder {
  const symbolsOf = createSymbolReader(model);
  const isCut = createCutRule(model);
  const cache = new Map<string, readonly number[]>();

  function encodePart(part: string): readonly number[] {
    const known = cache.get(part);
    if (known) return known;
    const spelt = spell(part);
    const whole = model.ignoreMerges ? model.vocab.get(spelt) : undefined;
    const ids = whole === undefined ? merge(symbolsOf(spelt), model.merges) : [whole];
    if (part.length <= longestCached) {
      if (cache.size >= cachedWords) cache.clear();
      cache.set(ownCopy(part), ids);
    }
    return ids;
  }

  return (word) => {
    if (!isCut || word.length <= 1) return encodePart(word);
    let ids: number[] | undefined;
    let start = 0;
    for (let cut = word.indexOf(spaceMark, 1); cut >= 0; cut = word.indexOf(spaceMark, cut + 1)) {
      if (!isCut(word.charCodeAt(cut - 1))) continue;
      ids ??= [];
      for (const id of encodePart(word.slice(start, cut))) ids.push(id);
      start = cut;
    }
    if (!ids) return encodePart(word);
    for (const id of encodePart(word.slice(start))) ids.push(id);
    return ids;
  };
}

/** A string cut out of a text holds the whole text in memory; what is kept must be a copy. */
export function ownCopy(part: string): string {
  return Buffer.from(part, "utf16le").toString("utf16le");
}

/** A function that gives the symbols a word starts from: its characters, or what stands for those that are not in the vocabulary. */
function createSymbolReader({ vocab, unknownToken, fuseUnknown, byteFallback }: BpeModel): (word: string) => number[] {
  const unknown = unknownToken === null ? undefined : vocab.get(unknownToken);
  const bytes = byteTokens.map((token) => vocab.get(token));

  return (word) => {
    const symbols: number[] = [];
    let afterUnknown = false;
    for (const character of word) {
      const id = vocab.get(character);
      const fallback = id === undefined && byteFallback ? Array.from(utf8.encode(character), (byte) => bytes[byte]) : [];
      const known =
        id === undefined ? (fallback.length > 0 && fallback.every((byte) => byte !== undefined) ? (fallback as number[]) : null) : [id];
      if (known) symbols.push(...known);
      else if (unknown !== undefined && !(fuseUnknown && afterUnknown)) symbols.push(unknown);
      afterUnknown = known === null;
    }
    return symbols;
  };
}

/**
 * Vocabularies in SentencePiece's style see a whole line as one word. No merge reaches across the boundary between characters a and b
 * unless some merge joins a token that ends in a to one that starts with b, so the line may be cut before a space mark wherever
 * no merge joins the character before it to the mark. Null when the vocabulary has no space mark.
 */
function createCutRule({ vocab, merges, byteFallback, ignoreMerges }: BpeModel): ((codeUnit: number) => boolean) | null {
  if (vocab.get(spaceMark) === undefined || ignoreMerges) return null;
  const mark = utf8.encode(spaceMark);
  const joinable = new Set([spaceMark.charCodeAt(0)]);
  for (let rank = 0; rank < merges.count; rank++) {
    if (!vocab.startsWith(merges.rights[rank] as number, mark)) continue;
    const left = vocab.tokenOf(merges.lefts[rank] as number) as string;
    if (byteFallback && byteOfToken(left) >= 0) return null;
    joinable.add(left.charCodeAt(left.length - 1));
  }
  return (codeUnit) => !joinable.has(codeUnit);
}

/** Joins pairs in order of (rank, position) with a heap over a linked list; entries that no longer hold are skipped. */
function merge(symbols: number[], { find, joined }: Merges): number[] {
  const n = symbols.length;
  if (n < 2) return symbols;
  const next = new Int32Array(n);
  const previous = new Int32Array(n);
  const rankAt = new Int32Array(n).fill(-1);
  const heap: number[] = [];
  const rate = (at: number): void => {
    const right = next[at] as number;
    const rank = right < n ? find(symbols[at] as number, symbols[right] as number) : -1;
    rankAt[at] = rank;
    if (rank >= 0) push(heap, rank * positions + at);
  };
  for (let i = 0; i < n; i++) {
    next[i] = i + 1;
    previous[i] = i - 1;
  }
  for (let i = 0; i < n; i++) rate(i);

  while (heap.length > 0) {
    const entry = pop(heap);
    const at = entry % positions;
    const rank = (entry - at) / positions;
    if (rankAt[at] !== rank) continue;
    const right = next[at] as number;
    symbols[at] = joined[rank] as number;
    rankAt[right] = -1;
    const after = next[right] as number;
    next[at] = after;
    if (after < n) previous[after] = at;
    rate(at);
    if ((previous[at] as number) >= 0) rate(previous[at] as number);
  }
  const ids: number[] = [];
  for (let i = 0; i < n; i = next[i] as number) ids.push(symbols[i] as number);
  return ids;
}

/** A heap entry is rank · 2^31 + position, exact in a double for ranks below 2^22. */
const positions = 2 ** 31;

function push(heap: number[], entry: number): void {
  let i = heap.length;
  while (i > 0) {
    const parent = (i - 1) >> 1;
    if ((heap[parent] as number) <= entry) break;
    heap[i] = heap[parent] as number;
    i = parent;
  }
  heap[i] = entry;
}

function pop(heap: number[]): number {
  const top = heap[0] as number;
  const last = heap.pop() as number;
  const n = heap.length;
  if (n === 0) return top;
  let i = 0;
  for (let child = 1; child < n; child = 2 * i + 1) {
    if (child + 1 < n && (heap[child + 1] as number) < (heap[child] as number)) child++;
    if ((heap[child] as number) >= last) break;
    heap[i] = heap[child] as number;
    i = child;
  }
  heap[i] = last;
  return top;
}
