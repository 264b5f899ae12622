export { type BenchEvent, type BenchOptions, type BenchResult, bench } from "./bench.js";
export { type CreateEvent, type CreateOptions, createCheckpoint } from "./create.js";
export { type Document, expectFormats, type ReadDocumentsOptions, readDocuments } from "./documents.js";
export type { TrainErrorCode } from "./errors.js";
export { type EstimateOptions, estimate, type TrainEstimate } from "./estimate.js";
export { type EvaluateEvent, type EvaluateOptions, evaluate } from "./evaluate.js";
export type { CheckpointEnd, EvaluationEnd, RunStart, StepEnd, TrainEvent } from "./events.js";
export type { TrainOptions } from "./options.js";
export { type ResumeOptions, resume, train } from "./train.js";
