export { pageTokens } from "@zaya/kernels";
export { type Checkpoint, type CheckpointTensor, loadCheckpoint, type StoredPlace } from "./checkpoint.js";
export type { DenseConfig, ModelConfig, Rope, ZayaConfig } from "./config.js";
export { configJson } from "./config_json.js";
export { type ConversionEstimate, type ConvertEvent, type ConvertOptions, convertCheckpoint, estimateConversion } from "./convert.js";
export { type DescribeOptions, type Description, describe } from "./describe.js";
export { parseConfig } from "./dialects.js";
export { expectDiskRoom } from "./disk_room.js";
export type { ModelErrorCode } from "./errors.js";
export { formatDescription } from "./format_description.js";
export { type Compute, type Forward, type ForwardOptions, forward } from "./graph/forward.js";
export { allocateCache, type GenerationLimits, type GenerationOptions, generationGraph } from "./graph/generation.js";
export { buildLoss, type Loss } from "./graph/loss.js";
export { storedType, type WeightStorage } from "./graph/weights.js";
export { initialise, initialValues, type NamedTensor } from "./initialise.js";
export { type LockOptions, takeLock } from "./lock.js";
export { makeFolder } from "./make_folder.js";
export { type TensorPart, tensorParts } from "./panels.js";
export { type ParameterKind, type ParameterSpec, parameters } from "./parameters.js";
export { type PhiloxKey, philox, philoxKey } from "./philox.js";
export { type PresetName, presets } from "./presets.js";
export { type CompareEvent, type CompareOptions, type Comparison, compareCheckpoints } from "./quantise/compare.js";
export { expectNoCheckpoint, type QuantiseEvent, type QuantiseOptions, quantiseCheckpoint } from "./quantise/quantise.js";
export { openRandomWeights, type RandomWeights } from "./random_weights.js";
export { type RunKind, type RunTypes, runKinds, runTypes } from "./run_types.js";
export type { SafetensorsWriter } from "./safetensors_writer.js";
export {
  type CheckpointWriterOptions,
  createCheckpointWriter,
  readTokenizerFiles,
  type SaveOptions,
  saveCheckpoint,
  type TokenizerFiles,
  tokenizerFileNames,
} from "./save.js";
export { singleWeights, weightIndex } from "./shards.js";
export type { ChatMessage, ChatTemplateOptions } from "./tokenizer/chat_template.js";
export type { DecodeStream } from "./tokenizer/decode.js";
export { saveTokenizer } from "./tokenizer/files.js";
export { type DecodeOptions, type EncodeOptions, loadTokenizer, type Tokenizer } from "./tokenizer/tokenizer.js";
export { type TrainTokenizerOptions, trainTokenizer } from "./tokenizer/train.js";
export { loadWeights } from "./weights.js";
