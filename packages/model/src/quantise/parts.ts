import { maxBytes, type TensorType, tensor } from "@zaya/kernels";
import type { Checkpoint } from "../checkpoint.js";
import { tensorParts } from "../panels.js";
import type { ParameterSpec } from "../parameters.js";
import type { Importance } from "./importance.js";

/** Elements that are read and packed at once. */
const partElements = 2 ** 22;

/** A piece of a tensor: where it comes from, how it is packed, and where it goes. */
interface Part {
  readonly type: TensorType;
  readonly offset: number;
  readonly bytes: number;
  read(checkpoint: Checkpoint): Promise<Float32Array>;
  /** What the columns of this part count, where it is known. */
  columns(importance: Importance): Float32Array | null;
}

const streamed: readonly ParameterSpec["kind"][] = ["embedding", "head", "matrix", "expert"];

/** Large matrices come in runs of whole panels; everything else is small and comes whole. */
export function* partsOf(spec: ParameterSpec, type: TensorType): Generator<Part> {
  if (!streamed.includes(spec.kind)) {
    yield { type, offset: 0, bytes: maxBytes(type), read: (checkpoint) => checkpoint.readFloat32(spec.name), columns: () => null };
    return;
  }
  const matrixRows = spec.shape.at(-2) as number;
  for (const { matrix, row, rows, columns, offset, bytes } of tensorParts(type, partElements)) {
    const begin = matrix * matrixRows + row;
    yield {
      type: tensor(type.dtype, [rows, columns], type.encoding),
      offset,
      bytes,
      read: (checkpoint) => checkpoint.readRows(spec.name, begin, begin + rows),
      columns: (importance) =>
        importance
          .get(spec.name)
          ?.subarray(matrix * columns)
          .subarray(0, columns) ?? null,
    };
  }
}
