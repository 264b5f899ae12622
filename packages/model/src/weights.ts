import { maxBytes, type PrefetchOptions, type Store, type TensorData, type TensorType } from "@zaya/kernels";
import { toBfloat16 } from "./bfloat16.js";
import { type Checkpoint, toFloat32 } from "./checkpoint.js";
import { fail } from "./errors.js";
import { storedType, type WeightStorage } from "./graph/weights.js";
import type { WeightType } from "./layout.js";
import { parameters } from "./parameters.js";

export interface LoadWeightsOptions extends WeightStorage, PrefetchOptions {
  /**
   * Whether tensors that lie in the file just as the store wants them are memory-mapped (and so cannot be written), not copied: read once, so that
   * no run waits for the disk. The file must then stay as it is. Default false; always with the types of a run-layout checkpoint.
   */
  readonly map?: boolean | undefined;
  /** Told after each tensor. */
  readonly onProgress?: ((doneBytes: number, totalBytes: number) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Puts every parameter of a checkpoint into a store under its transformers name, as `storedType` says, a tensor at a time.
 *
 * @throws CHECKPOINT_INVALID naming a tensor that holds NaN (panels that are mapped are not looked at), or the signal's reason
 */
export async function loadWeights(store: Store, checkpoint: Checkpoint, options: LoadWeightsOptions): Promise<void> {
  let buffer: Uint8Array | undefined;
  const specs = parameters(checkpoint.config);
  const totalBytes = specs.reduce((sum, spec) => sum + maxBytes(storedType(spec, options)), 0);
  let doneBytes = 0;
  for (const spec of specs) {
    options.signal?.throwIfAborted();
    const type = storedType(spec, options);
    const { dtype } = checkpoint.tensors.get(spec.name) ?? fail("CHECKPOINT_INVALID", `missing tensor ${spec.name}`);
    const place = options.map || options.types ? checkpoint.placeOf(spec.name) : null;
    if (place && sameType(place.type, type) && place.offset % bytesPerElement === 0) {
      store.map(spec.name, type, place.path, place.offset);
      await store.prefetch(spec.name, options);
      if (type.encoding === "plain") await checkpoint.read(spec.name); // for what it refuses; those that are mapped are small
    } else {
      buffer ??= new Uint8Array(largestTensor(checkpoint));
      await store.write(spec.name, type, elementsFor(type, await checkpoint.read(spec.name, buffer), dtype));
    }
    doneBytes += maxBytes(type);
    options.onProgress?.(doneBytes, totalBytes);
  }
}

/** The storage in which a checkpoint loses nothing: its own in the run layout, else panels of bfloat16, or of float32 where it holds more. */
export function exactStorage(checkpoint: Checkpoint): WeightStorage {
  if (checkpoint.weights) return checkpoint.weights;
  const half: WeightStorage = { dtype: "bfloat16", encoding: "panels" };
  const fits = parameters(checkpoint.config).every(
    (spec) => storedType(spec, half).dtype !== "bfloat16" || checkpoint.tensors.get(spec.name)?.dtype === "BF16",
  );
  return fits ? half : { ...half, dtype: "float32" };
}

/** Bytes of the largest tensor of a checkpoint: a buffer that all can be read into, one after the other. */
export function largestTensor({ tensors }: Checkpoint): number {
  return [...tensors.values()].reduce((largest, { bytes }) => Math.max(largest, bytes), 0);
}

/** No element is larger, so what starts at a multiple of it is aligned. */
const bytesPerElement = 4;

function sameType(a: TensorType, b: TensorType): boolean {
  return a.dtype === b.dtype && a.encoding === b.encoding;
}

/** What the store takes for this type: panels are packed from float32 as well as from their own type. */
function elementsFor(type: TensorType, bytes: Uint8Array, stored: WeightType): TensorData {
  if (type.dtype === "bfloat16" && stored === "BF16") return new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 2);
  const values = toFloat32(bytes, stored);
  if (type.dtype === "float64" && type.encoding === "plain") return Float64Array.from(values);
  return type.dtype === "bfloat16" && type.encoding === "plain" ? toBfloat16(values) : values;
}
