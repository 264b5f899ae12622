// What the other packages of this project build on, beside the public interface in index.ts. It may change with any version.

export { expectDiskRoom } from "./disk_room.js";
export { allocateCache } from "./graph/generation.js";
export { initialValues } from "./initialise.js";
export { type LockOptions, takeLock } from "./lock.js";
export { makeFolder } from "./make_folder.js";
export { type PhiloxKey, philox, philoxKey } from "./philox.js";
export { expectRoomToRun } from "./quantise/expect_room.js";
export { expectNoCheckpoint } from "./quantise/quantise.js";
export { openRandomWeights, type RandomWeights } from "./random_weights.js";
export { decodeText, readText } from "./read_text.js";
export type { SafetensorsWriter } from "./safetensors_writer.js";
export { type CheckpointWriterOptions, createCheckpointWriter } from "./save.js";
export { singleWeights, weightIndex } from "./shards.js";
export { tokenizerFileNames } from "./tokenizer/files.js";
