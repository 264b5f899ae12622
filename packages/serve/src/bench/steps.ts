import { uniform } from "../random.js";
import { pageTokens, type RunnerLimits, type StepBatch } from "../runner.js";

/** Random tokens: a stream of them for each seed. With them a random checkpoint uses its experts evenly. */
export type DrawToken = () => number;

export function drawTokens(vocabSize: number, seed: number): DrawToken {
  let drawn = 0;
  return () => Math.floor(vocabSize * uniform(seed, 0, drawn++));
}

/** A step of `tokens` more tokens for each of `sequences` sequences that have `cached` already. Sequence s owns slot s and the pages from s · pagesPerSequence on. */
export function stepBatch(limits: RunnerLimits, sequences: number, cached: number, tokens: number, draw: DrawToken): StepBatch {
  const { pagesPerSequence } = limits;
  const pages = Math.ceil((cached + tokens) / pageTokens);
  return {
    ids: Int32Array.from({ length: sequences * tokens }, draw),
    positions: Int32Array.from({ length: sequences * tokens }, (_, t) => cached + (t % tokens)),
    cuSeqlens: Int32Array.from({ length: sequences + 1 }, (_, s) => s * tokens),
    slots: Int32Array.from({ length: sequences }, (_, s) => s),
    cached: new Int32Array(sequences).fill(cached),
    pageTable: Int32Array.from({ length: sequences * pagesPerSequence }, (_, i) => (i % pagesPerSequence < pages ? i : 0)),
    logitRows: Int32Array.from({ length: sequences }, (_, s) => (s + 1) * tokens - 1),
    temperatures: new Float32Array(sequences).fill(1),
  };
}
