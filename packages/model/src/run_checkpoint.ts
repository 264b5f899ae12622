import type { TensorType } from "@zaya/kernels";
import { type Checkpoint, type CheckpointTensor, expectFinite, expectRows, toFloat32 } from "./checkpoint.js";
import type { ModelConfig } from "./config.js";
import { fail } from "./errors.js";
import { placeOfRows, unpackPanels } from "./panels.js";
import { elements, parameters } from "./parameters.js";
import { readRunTypes } from "./run_layout.js";
import type { StoredTensor } from "./safetensors.js";
import type { Shards } from "./shards.js";

/**
 * A checkpoint in the run layout (run_layout.ts). Its tensors are there to be mapped, by `placeOf`; reading unpacks panels.
 * @throws CHECKPOINT_INVALID
 */
export function openRunCheckpoint(dir: string, config: ModelConfig, shards: Shards): Checkpoint {
  const types = readRunTypes(dir, config, shards.tensors, shards.metadata);
  const typeOf = (name: string) => types.get(name) ?? fail("INVALID_ARGUMENT", `${name} is no parameter of this model`);
  const stored = (name: string) => shards.tensors.get(name) as StoredTensor;
  const tensors = new Map(
    parameters(config).map(({ name, shape }): [string, CheckpointTensor] => {
      const half = typeOf(name).dtype === "bfloat16";
      return [name, { dtype: half ? "BF16" : "F32", shape, bytes: elements({ shape }) * (half ? 2 : 4) }];
    }),
  );

  /** The elements in these bytes of a tensor, which hold a tensor of this type. */
  async function readPart(name: string, type: TensorType, begin: number, bytes: number): Promise<Uint8Array> {
    const raw = await shards.read(stored(name), new Uint8Array(bytes), begin);
    const unpacked = type.encoding === "panels" ? unpackPanels(type, raw) : raw;
    const part = new Uint8Array(unpacked.buffer, unpacked.byteOffset, unpacked.byteLength);
    expectFinite(dir, name, part, (tensors.get(name) as CheckpointTensor).dtype);
    return part;
  }

  const checkpoint: Checkpoint = {
    dir,
    config,
    layout: "run",
    tensors,
    weights: { dtype: "bfloat16", encoding: "panels", types },
    async read(name, into) {
      const part = await readPart(name, typeOf(name), 0, stored(name).bytes);
      if (!into) return part;
      if (into.length < part.length) fail("INVALID_ARGUMENT", `${name} has ${part.length} bytes, the buffer to read into ${into.length}`);
      into.set(part);
      return into.subarray(0, part.length);
    },
    async readFloat32(name) {
      return toFloat32(await checkpoint.read(name), (tensors.get(name) as CheckpointTensor).dtype);
    },
    async readRows(name, begin, end) {
      expectRows(name, tensors.get(name)?.shape ?? [], begin, end);
      const { type, offset, bytes } = placeOfRows(typeOf(name), begin, end);
      return toFloat32(await readPart(name, type, offset, bytes), (tensors.get(name) as CheckpointTensor).dtype);
    },
    placeOf(name) {
      return { path: stored(name).path, offset: stored(name).offset, type: typeOf(name) };
    },
    [Symbol.asyncDispose]: () => shards.close(),
  };
  return checkpoint;
}
