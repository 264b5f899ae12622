import { fail } from "./errors.js";

/** The element types a tensor can have. `float64` runs on the portable kernels only, for gradient checks. */
export type DType = "float32" | "bfloat16" | "float64" | "int32";

/** How the elements lie: row by row, or in the packed panels that the matrix kernels read (native/cpu/gemm.h). */
export type Encoding = "plain" | "panels";

/**
 * A size known to the host when a step starts, `times * value + plus`, where `value` is bound at `run` and never above `max`.
 * Memory is laid out once for `max`. Sizes that depend on data (tokens an expert, cached lengths) are tensors, never this.
 */
export interface Size {
  readonly name: string;
  readonly max: number;
  readonly times: number;
  readonly plus: number;
}

export type Dimension = number | Size;

/** Shape and encoding of a tensor. */
export interface TensorType {
  readonly dtype: DType;
  readonly shape: readonly Dimension[];
  readonly encoding: Encoding;
}

export const bytesPerElement: Readonly<Record<DType, number>> = { float32: 4, bfloat16: 2, float64: 8, int32: 4 };

/** Makes a tensor type. @example tensor("float32", [size("T", 512), 64]) */
export function tensor(dtype: DType, shape: readonly Dimension[], encoding: Encoding = "plain"): TensorType {
  return { dtype, shape, encoding };
}

/** Declares a size bound at `run`, at most `max`. */
export function size(name: string, max: number): Size {
  if (!Number.isInteger(max) || max < 0) fail("INVALID_ARGUMENT", `size ${name}: max must be a whole number ≥ 0, received ${max}`);
  return { name, max, times: 1, plus: 0 };
}

/** `dimension + n`. */
export function plus(dimension: Dimension, n: number): Dimension {
  return typeof dimension === "number" ? dimension + n : { ...dimension, plus: dimension.plus + n };
}

/** The largest value a dimension can take. */
export function maxOf(dimension: Dimension): number {
  return typeof dimension === "number" ? dimension : dimension.times * dimension.max + dimension.plus;
}

/** The value of a dimension with its size bound. */
export function valueOf(dimension: Dimension, sizes: ReadonlyMap<string, number>): number {
  if (typeof dimension === "number") return dimension;
  const value = sizes.get(dimension.name);
  if (value === undefined) fail("MISSING_INPUT", `size ${dimension.name} is not bound; pass it in \`sizes\``);
  return dimension.times * value + dimension.plus;
}

export function sameDimension(a: Dimension, b: Dimension): boolean {
  if (typeof a === "number" || typeof b === "number") return a === b;
  return a.name === b.name && a.times === b.times && a.plus === b.plus;
}

export function sameShape(a: readonly Dimension[], b: readonly Dimension[]): boolean {
  return a.length === b.length && a.every((dimension, i) => sameDimension(dimension, b[i] as Dimension));
}

/** Number of elements with every size at its maximum. */
export function maxElements(type: TensorType): number {
  return type.shape.reduce<number>((product, dimension) => product * maxOf(dimension), 1);
}

/** Bytes with every size at its maximum. Panels round rows up to 32 and columns to an even number (native/cpu/gemm.h). */
export function maxBytes(type: TensorType): number {
  if (type.encoding === "plain") return maxElements(type) * bytesPerElement[type.dtype];
  const [columns, rows, ...outer] = type.shape.map(maxOf).reverse();
  const matrices = outer.reduce((product, n) => product * n, 1);
  return matrices * Math.ceil((rows ?? 1) / 32) * 32 * Math.ceil((columns ?? 1) / 2) * 2 * bytesPerElement[type.dtype];
}

/** "float32 [T≤512, 64]", for messages. */
export function describeType(type: TensorType): string {
  return `${type.encoding === "plain" ? "" : `${type.encoding} `}${type.dtype} [${type.shape.map(describeDimension).join(", ")}]`;
}

function describeDimension(dimension: Dimension): string {
  if (typeof dimension === "number") return String(dimension);
  const { name, times, plus: offset } = dimension;
  return `${times === 1 ? "" : times}${name}${offset === 0 ? "" : `+${offset}`}`;
}
