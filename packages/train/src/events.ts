/** What `train` and `resume` yield. Losses are nats a token. */
export type TrainEvent =
  | RunStart
  | StepEnd
  | EvaluationEnd
  | CheckpointEnd
  | {
      readonly type: "train-end";
      readonly step: number;
      /** Folder of the last checkpoint, which any loader of the transformers layout opens. */
      readonly checkpoint: string;
      readonly loss: number | null;
      /** The checkpoint with the lowest held-out loss of those that are kept; null where none was evaluated. */
      readonly best: { readonly path: string; readonly step: number; readonly loss: number } | null;
    };

export interface RunStart {
  readonly type: "run-start";
  readonly out: string;
  /** The step of the checkpoint from which the run goes on; null for a new run. */
  readonly resumedFrom: number | null;
  /** Steps of the whole run; null when it is limited by time. */
  readonly steps: number | null;
  readonly parameters: { readonly total: number; readonly active: number };
  readonly tokensPerStep: number;
  readonly data: {
    readonly documents: number;
    readonly trainingTokens: number;
    /** To be evaluated: held out, or of the files given for it. */
    readonly heldOutTokens: number;
    /** Why nothing is held out, and so evaluated, although a share was asked for; else null. */
    readonly notHeldOut: string | null;
    readonly cached: boolean;
  };
  readonly vocabSize: number;
  /** Bytes of the tensors in the store, and of the arenas of the step and the evaluation. */
  readonly memory: { readonly storeBytes: number; readonly arenaBytes: number };
  /** Floating-point operations that a step needs once, from the model's accounting. */
  readonly flopsPerStep: number;
}

export interface StepEnd {
  readonly type: "step-end";
  /** Counted from 1. */
  readonly step: number;
  readonly loss: number;
  readonly learningRate: number;
  /** Norm of the mean gradient before clipping. */
  readonly gradNorm: number;
  /** The busiest expert's tokens over the mean expert's, the worst layer; null for a dense model. */
  readonly maxMeanExpertLoad: number | null;
  /** Share of (token, layer) pairs routed to the skip class; null for a dense model. */
  readonly skipFraction: number | null;
  readonly tokensPerSecond: number;
  /** The operations a step needs over what this machine's peak, the highest that this run has measured, would do in its time. */
  readonly utilisation: number;
  readonly secondsLeft: number | null;
}

export interface EvaluationEnd {
  readonly type: "evaluation-end";
  readonly step: number;
  /** Of the held-out tokens. */
  readonly loss: number;
  /** The same as bits a UTF-8 byte of the held-out text. */
  readonly bitsPerByte: number;
  readonly tokens: number;
  readonly bytes: number;
}

export interface CheckpointEnd {
  readonly type: "checkpoint-end";
  readonly step: number;
  readonly path: string;
  readonly bytes: number;
  readonly seconds: number;
}
