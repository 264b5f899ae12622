import { ZayaError } from "./errors.js";
import { type Dimension, type DType, describeType, isQuantised, sameShape, type TensorType, tensor } from "./types.js";

/** The floating-point types, any of which kernels read where they convert what they read. */
export const floats: readonly DType[] = ["float32", "bfloat16", "float64"];

/**
 * Throws SHAPE_MISMATCH in the words every operation uses: "[rms_norm] expected weight of shape [512], received [256]". With element types the
 * input must also be plain and of one of them.
 */
export function expectShape(
  operation: string,
  what: string,
  received: TensorType | null | undefined,
  expected: readonly Dimension[],
  dtypes?: readonly DType[],
): TensorType {
  if (!received) throw new ZayaError("SHAPE_MISMATCH", `[${operation}] expected ${what} of shape ${show(expected)}, received nothing`);
  if (!sameShape(received.shape, expected)) {
    throw new ZayaError("SHAPE_MISMATCH", `[${operation}] expected ${what} of shape ${show(expected)}, received ${show(received.shape)}`);
  }
  if (dtypes && (received.encoding !== "plain" || !dtypes.includes(received.dtype))) {
    throw new ZayaError(
      "SHAPE_MISMATCH",
      `[${operation}] expected ${what} to be plain ${dtypes.join(" or ")}, received ${describeType(received)}`,
    );
  }
  return received;
}

/** The input, which must be there and have this many dimensions; with element types it must also be plain and of one of them. */
export function expectRank(
  operation: string,
  what: string,
  received: TensorType | null | undefined,
  rank: number,
  dtypes?: readonly DType[],
): TensorType {
  if (received?.shape.length !== rank) {
    throw new ZayaError(
      "SHAPE_MISMATCH",
      `[${operation}] expected ${what} of ${rank} dimensions, received ${received ? show(received.shape) : "nothing"}`,
    );
  }
  if (dtypes && (received.encoding !== "plain" || !dtypes.includes(received.dtype))) wrongType(operation, what, received, dtypes);
  return received;
}

/** A weight of a product, of this many dimensions: of floating-point numbers, plain or in panels, or in quantised panels. */
export function expectWeight(operation: string, what: string, received: TensorType | null | undefined, rank: number): TensorType {
  const weight = expectRank(operation, what, received, rank);
  return isQuantised(weight) ? weight : expectFloatWeight(operation, what, weight, rank);
}

/** The same without quantised panels. */
export function expectFloatWeight(operation: string, what: string, received: TensorType | null | undefined, rank: number): TensorType {
  const weight = expectRank(operation, what, received, rank);
  if (weight.encoding === "rows" || !floats.includes(weight.dtype)) wrongType(operation, what, weight, floats);
  return weight;
}

function wrongType(operation: string, what: string, received: TensorType, dtypes: readonly DType[]): never {
  throw new ZayaError(
    "SHAPE_MISMATCH",
    `[${operation}] expected ${what} of type ${dtypes.join(" or ")}, received ${describeType(received)}`,
  );
}

/** A weight that gradients can run through: quantised panels are refused. */
export function expectUnquantised(operation: string, what: string, received: TensorType | null | undefined): void {
  if (received && isQuantised(received))
    throw new ZayaError(
      "SHAPE_MISMATCH",
      `[${operation}] expected ${what} that is not quantised, received ${received.dtype} panels; gradients need float weights`,
    );
}

/** A fixed dimension: a symbol is refused. */
export function expectFixed(operation: string, what: string, dimension: Dimension | undefined): number {
  if (typeof dimension !== "number")
    throw new ZayaError("SHAPE_MISMATCH", `[${operation}] expected ${what} to be a fixed number, received ${dimension?.name ?? "nothing"}`);
  return dimension;
}

/** The type a computation on this input has: float64 stays, everything else is float32. */
export function computed(type: TensorType, shape: readonly Dimension[] = type.shape): TensorType {
  return tensor(type.dtype === "float64" ? "float64" : "float32", shape);
}

function show(shape: readonly Dimension[]): string {
  return `[${shape.map((d) => (typeof d === "number" ? d : d.name)).join(", ")}]`;
}
