export { type Checkpoint, type CheckpointTensor, loadCheckpoint, type StoredPlace } from "./checkpoint.js";
export { type DenseConfig, ModelConfig, type Rope, type ZayaConfig } from "./config.js";
export { configJson } from "./config_json.js";
export { type ConversionEstimate, type ConvertEvent, type ConvertOptions, convertCheckpoint, estimateConversion } from "./convert.js";
export { type DescribeOptions, type Description, describe, type FlopsPerToken, type Memory } from "./describe.js";
export { type ParseConfigOptions, parseConfig } from "./dialects.js";
export type { ModelErrorCode } from "./errors.js";
export { formatDescription } from "./format_description.js";
export type { Routing } from "./graph/experts.js";
export { type Compute, type Forward, type ForwardOptions, forward } from "./graph/forward.js";
export { allocateCache, type GenerationLimits, type GenerationOptions, generationGraph } from "./graph/generation.js";
export { type CacheInputs, type RaggedInputs, raggedInputs } from "./graph/inputs.js";
export { buildLoss, type Loss } from "./graph/loss.js";
export { storedType, type WeightStorage } from "./graph/weights.js";
export { initialise, type NamedTensor } from "./initialise.js";
export { type ParameterKind, type ParameterSpec, parameters } from "./parameters.js";
export { type PresetName, presets } from "./presets.js";
export { type CompareEvent, type CompareOptions, type Comparison, compareCheckpoints } from "./quantise/compare.js";
export type { CalibrateWindow } from "./quantise/importance.js";
export { type QuantiseEvent, type QuantiseOptions, quantiseCheckpoint } from "./quantise/quantise.js";
export { type RunKind, type RunTypes, runKinds, runTypes } from "./run_types.js";
export {
  readTokenizerFiles,
  type SaveOptions,
  saveCheckpoint,
  type TokenizerFiles,
} from "./save.js";
export type { ChatMessage, ChatTemplateOptions } from "./tokenizer/chat_template.js";
export type { DecodeStream } from "./tokenizer/decode.js";
export { saveTokenizer } from "./tokenizer/files.js";
export { type DecodeOptions, type EncodeOptions, loadTokenizer, type Tokenizer } from "./tokenizer/tokenizer.js";
export { type TrainTokenizerOptions, trainTokenizer } from "./tokenizer/train.js";
export { type LoadWeightsOptions, loadWeights } from "./weights.js";
