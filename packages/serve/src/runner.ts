/** The largest step a runner takes; the engine plans within it. T tokens, S sequences, R rows of logits, M pages a sequence, V vocabulary rows. */
export interface RunnerLimits {
  readonly maxTokens: number;
  readonly maxSequences: number;
  readonly maxLogitRows: number;
  readonly numPages: number;
  readonly numSlots: number;
  readonly pagesPerSequence: number;
  readonly vocabSize: number;
}

/** One step of the model over several sequences on one ragged axis: sequence s owns rows cuSeqlens[s] to cuSeqlens[s+1]. */
export interface StepBatch {
  /** Token ids, [T]. */
  readonly ids: Int32Array;
  /** Position of each token in its sequence, [T]. */
  readonly positions: Int32Array;
  /** [S+1]. */
  readonly cuSeqlens: Int32Array;
  /** Row of the convolution and delay states that belongs to each sequence, [S]. */
  readonly slots: Int32Array;
  /** Tokens of each sequence that are in the cache already, [S]. */
  readonly cached: Int32Array;
  /** Page of each block of 32 tokens, [S, M]; entries past the sequence's end are 0 and never read. */
  readonly pageTable: Int32Array;
  /** Rows of the ragged axis whose logits are wanted, [R]. */
  readonly logitRows: Int32Array;
  /** Temperature at which each of these rows is sampled, [R]; 1 where it is not. */
  readonly temperatures: Float32Array;
}

/** Logits of a row that are ranked: what a seed draws depends on it, and no request may ask for more log-probabilities. */
export const numRanked = 128;

/** One row of logits. The most probable tokens are at hand, the others are fetched when they are asked for, until the next step. */
export interface LogitRow {
  /** Rows of the vocabulary, V. */
  readonly size: number;
  /** The largest logits, {@link numRanked} of them or V, largest first, the lower id first where two are equal. */
  readonly values: Float32Array;
  readonly ids: Int32Array;
  /** Σ exp(logit − values[0]) over all V; NaN where a logit is NaN or +∞. */
  readonly sum: number;
  /** Σ exp((logit − values[0]) / temperature) over all V, at the row's temperature. */
  readonly temperedSum: number;
  /** `temperedSum` of each {@link logitChunk} logits, [⌈V/8192⌉]; zeros where the temperature is 0. */
  readonly masses: Float32Array;
  /** The logits of tokens begin … end − 1; default all, [V]. */
  readonly logits: (begin?: number, end?: number) => Float32Array;
}

/** What the scheduler needs of a model: one step in, R rows of logits out. Keys, values and states stay with the runner. */
export interface StepRunner extends AsyncDisposable {
  readonly limits: RunnerLimits;
  run(batch: StepBatch): Promise<readonly LogitRow[]>;
}

/** Native bytes that a loaded model holds, all reserved when it was opened. */
export interface EngineMemory {
  readonly weights: number;
  /** Weights that are mapped from the checkpoint's files: memory of the system, shared by all processes that map them. */
  readonly mapped: number;
  /** Bytes of the mapped weights that lie in huge pages, from which they are read faster; null where the system does not tell. */
  readonly mappedHuge: number | null;
  /** Room for keys, values and states of all requests, which becomes memory as they fill it. */
  readonly cache: number;
  /** Intermediate values of a step. */
  readonly step: number;
}

export { logitChunk, pageTokens } from "@zaya/kernels";
