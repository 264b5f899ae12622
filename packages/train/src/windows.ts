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
  /** Full windows, or the one short window of a tiny corpus: what training draws from. */
  readonly trainable: number;
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
    trainable: numPairs === 0 ? 0 : Math.max(1, Math.floor(numPairs / context)),
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

/**
 * Which documents are held out: a fixed choice by number, the same for every seed, so that runs can be compared. At least one where
 * there are two and the fraction is above 0. Held-out documents come in a shuffled order, so that any first few are a fair sample.
 */
export function splitDocuments(numDocuments: number, fraction: number): { training: number[]; heldOut: number[] } {
  const wanted = fraction > 0 && numDocuments > 1 ? Math.min(numDocuments - 1, Math.max(1, Math.round(fraction * numDocuments))) : 0;
  const heldOut = Array.from({ length: wanted }, (_, rank) => permute(0, 0xffffffff, rank, numDocuments));
  const chosen = new Set(heldOut);
  const training = Array.from({ length: numDocuments }, (_, d) => d).filter((d) => !chosen.has(d));
  return { training, heldOut };
}

/** The windows of one microbatch: a pure function of its arguments. Each epoch visits every window once, in an order of its own. */
export function sampleWindows(seed: number, trainable: number, microbatch: number, windowsEach: number): number[] {
  return Array.from({ length: windowsEach }, (_, w) => {
    const drawn = microbatch * windowsEach + w;
    return permute(seed, Math.floor(drawn / trainable), drawn % trainable, trainable);
  });
}
