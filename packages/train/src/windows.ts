// Documents are laid end to end and cut into windows of `context` (input, label) pairs, so that every token but a document's first is
// predicted exactly once. A microbatch is some windows on one ragged axis; a sequence of it is a stretch of one document in one window.
import type { Corpus } from "./corpus.js";
import { permute } from "./random.js";

/** One microbatch. */
export interface Batch {
  /** int32 [T] */
  readonly ids: Int32Array;
  /** int32 [T], counted from the start of each sequence. */
  readonly positions: Int32Array;
  /** int32 [T], the token that follows each; −1 where none is to be predicted. */
  readonly labels: Int32Array;
  /** int32 [S+1] */
  readonly cuSeqlens: Int32Array;
}

/** Some documents of a corpus, cut into windows. */
export interface Windows {
  /** Number of windows; the last may be shorter than the others. */
  readonly count: number;
  /** (input, label) pairs in all. */
  readonly numPairs: number;
  /** UTF-8 bytes of the documents. */
  readonly numBytes: number;
  /** The windows of these numbers as one microbatch. */
  batch(windows: readonly number[]): Promise<Batch>;
}

/** Cuts documents (by number, in this order) into windows. */
export function cutWindows(corpus: Corpus, documents: readonly number[], context: number): Windows {
  const pairsBefore = new Float64Array(documents.length + 1);
  let numBytes = 0;
  documents.forEach((document, i) => {
    const tokens = (corpus.starts[document + 1] as number) - (corpus.starts[document] as number);
    pairsBefore[i + 1] = (pairsBefore[i] as number) + Math.max(0, tokens - 1);
    numBytes += corpus.documentBytes[document] as number;
  });
  const numPairs = pairsBefore[documents.length] as number;
  const count = Math.ceil(numPairs / context);

  /** The place in the list of the document that has this pair. */
  function find(pair: number): number {
    let low = 0;
    let high = documents.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if ((pairsBefore[middle] as number) <= pair) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  return {
    count,
    numPairs,
    numBytes,
    async batch(windows) {
      const spans = windows.map((window) => ({ begin: window * context, end: Math.min((window + 1) * context, numPairs) }));
      const T = spans.reduce((sum, { begin, end }) => sum + end - begin, 0);
      const ids = new Int32Array(T);
      const labels = new Int32Array(T);
      const positions = new Int32Array(T);
      const boundaries = [0];
      let t = 0;
      for (const { begin, end } of spans) {
        for (let pair = begin; pair < end; ) {
          const place = find(pair);
          const length = Math.min(end, pairsBefore[place + 1] as number) - pair;
          const first = (corpus.starts[documents[place] as number] as number) + pair - (pairsBefore[place] as number);
          const tokens = await corpus.read(first, first + length + 1);
          ids.set(tokens.subarray(0, length), t);
          labels.set(tokens.subarray(1), t);
          for (let i = 0; i < length; i++) positions[t + i] = i;
          t += length;
          boundaries.push(t);
          pair += length;
        }
      }
      return { ids, positions, labels, cuSeqlens: Int32Array.from(boundaries) };
    },
  };
}

/** All documents in a fixed order that is the same for every seed: any first few are a fair sample. */
export function* shuffleDocuments(numDocuments: number): Generator<number> {
  for (let rank = 0; rank < numDocuments; rank++) yield permute(0, 0xffffffff, rank, numDocuments);
}

/**
 * Which documents are held out: a fixed choice, the same for every seed, so that runs can be compared. In a shuffled order each document is
 * taken that keeps the held-out tokens within this fraction of all tokens, and within half of them; where none does, as in a corpus of a few long
 * documents, it is the smallest of at least two. Held-out documents stay in the shuffled order, so that any first few are a fair sample.
 *
 * @param starts document d owns the tokens from starts[d] to starts[d + 1]
 */
export function splitDocuments(starts: ArrayLike<number>, fraction: number): { training: number[]; heldOut: number[] } {
  const numDocuments = starts.length - 1;
  const documents = Array.from({ length: numDocuments }, (_, d) => d);
  if (fraction === 0 || numDocuments < 2) return { training: documents, heldOut: [] };
  const sizeOf = (document: number) => (starts[document + 1] as number) - (starts[document] as number);
  const smallest = documents.reduce((best, document) => (sizeOf(document) < sizeOf(best) ? document : best));
  const total = starts[numDocuments] as number;
  let room = Math.min(Math.round(fraction * total), Math.floor(total / 2));
  const heldOut: number[] = [];
  for (const document of shuffleDocuments(numDocuments)) {
    if (room < sizeOf(smallest)) break;
    if (sizeOf(document) > room) continue;
    heldOut.push(document);
    room -= sizeOf(document);
  }
  if (heldOut.length === 0) heldOut.push(smallest);
  const chosen = new Set(heldOut);
  return { training: documents.filter((document) => !chosen.has(document)), heldOut };
}

/** The windows of one microbatch: a pure function of its arguments. Each epoch visits every window once, in an order of its own. */
export function sampleWindows(seed: number, count: number, microbatch: number, windowsEach: number): number[] {
  return Array.from({ length: windowsEach }, (_, w) => {
    const drawn = microbatch * windowsEach + w;
    return permute(seed, Math.floor(drawn / count), drawn % count, count);
  });
}
