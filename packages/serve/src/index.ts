export { type BenchEvent, type BenchOptions, type BenchResult, bench } from "./bench/bench.js";
export type { BenchDetails } from "./bench/inspect.js";
export { createEngine, type EngineOptions, type EngineSource } from "./create_engine.js";
export {
  assembleEngine,
  type Engine,
  type EngineParts,
  type EngineStats,
  type ExpectedSpeed,
  type ModelInfo,
  type PreparedPrompt,
} from "./engine.js";
export type { ScoredToken, TokenLogprob } from "./logprobs.js";
export type { CacheDtype } from "./model_runner.js";
export type { WeightProducts } from "./products.js";
export type { GenerateEvent, GenerateRequest, Usage } from "./request.js";
export { type EngineMemory, type LogitRow, numRanked, pageTokens, type RunnerLimits, type StepBatch, type StepRunner } from "./runner.js";
