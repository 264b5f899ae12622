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
}

/** What the scheduler needs of a model: one step in, logits float32 [R, V] out. Keys, values and states stay with the runner. */
export interface StepRunner extends AsyncDisposable {
  readonly limits: RunnerLimits;
  run(batch: StepBatch): Promise<Float32Array>;
}

/** Tokens in one page of the key/value cache: the key block of the attention kernel. */
export const pageTokens = 32;
