import { fail } from "./errors.js";

/**
 * The element types a tensor can have. `float64` runs on the portable kernels only, for gradient checks. `int6` and `int4` are
 * weights in panels, never plain; `int8` is either.
 */
export type DType = "float32" | "bfloat16" | "float64" | "int32" | "int8" | "int6" | "int4";

/** The element types that weights in panels have. */
export type PanelType = Exclude<DType, "int32">;

/**
 * How the elements lie. "plain": row by row. "panels": a weight as the matrix kernels read it (native/cpu/gemm.h; for integers, which carry their
 * scales with them, native/cpu/quantised.h). "rows": an activation as int8 with a scale for each row and 256 columns, for products with
 * quantised weights (native/cpu/quantised.h).
 */
export type Encoding = "plain" | "panels" | "rows";

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

/** Bits of one element; in integer panels without its share of the scales. */
const bitsPerElement: Readonly<Record<DType, number>> = { float32: 32, bfloat16: 16, float64: 64, int32: 32, int8: 8, int6: 6, int4: 4 };

/** Whether a weight of this type is in quantised panels: integers with scales. */
export function isQuantised({ dtype, encoding }: Pick<TensorType, "dtype" | "encoding">): boolean {
  return encoding === "panels" && (dtype === "int8" || dtype === "int6" || dtype === "int4");
}

/**
 * Makes a tensor type.
 * @throws INVALID_ARGUMENT for an unknown type, a dimension that is no whole number ≥ 0, for plain int4 or int6, and for rows of anything but int8
 * @example tensor("float32", [size("T", 512), 64])
 */
export function tensor(dtype: DType, shape: readonly Dimension[], encoding: Encoding = "plain"): TensorType {
  const type = { dtype, shape, encoding };
  if (!Object.hasOwn(bitsPerElement, dtype))
    fail("INVALID_ARGUMENT", `unknown type ${dtype}; tensors are of ${Object.keys(bitsPerElement).join(", ")}`);
  for (const dimension of shape)
    if (typeof dimension === "number" && !(Number.isSafeInteger(dimension) && dimension >= 0))
      fail("INVALID_ARGUMENT", `dimensions are whole numbers ≥ 0, received ${describeType(type)}`);
  if (encoding === "plain" && bitsPerElement[dtype] % 8 !== 0)
    fail("INVALID_ARGUMENT", `${dtype} lies in panels only, received ${describeType(type)}`);
  if (encoding === "rows" && dtype !== "int8") fail("INVALID_ARGUMENT", `rows are of int8, received ${describeType(type)}`);
  return type;
}

/** Declares a size bound at `run`, at most `max`. */
export function size(name: string, max: number): Size {
  if (!Number.isInteger(max) || max < 0) fail("INVALID_ARGUMENT", `size ${name}: max must be a whole number ≥ 0, received ${max}`);
  return { name, max, times: 1, plus: 0 };
}

/** @throws INVALID_ARGUMENT unless a size may be bound to the value */
export function expectSize({ name, max }: Pick<Size, "name" | "max">, value: number): void {
  if (!Number.isInteger(value) || value < 0 || value > max)
    fail("INVALID_ARGUMENT", `size ${name} is ${value}; it was declared to be a whole number from 0 to ${max}`);
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

/** Bytes with every size at its maximum. */
export function maxBytes(type: TensorType): number {
  return bytesOf(type, type.shape.map(maxOf));
}

/**
 * Bytes of a tensor of this type and (bound) shape. Panels hold 32 rows; columns are rounded up to an even number (native/cpu/gemm.h),
 * in quantised panels to 32, in int8 rows to 256 (native/cpu/quantised.h).
 */
export function bytesOf(type: Pick<TensorType, "dtype" | "encoding">, shape: readonly number[]): number {
  const bits = bitsPerElement[type.dtype];
  if (type.encoding === "plain") return shape.reduce((n, d) => n * d, bits / 8);
  const [columns = 1, rows = 1, ...outer] = shape.toReversed();
  if (type.encoding === "rows") {
    return outer.reduce((n, d) => n * d, rows) * Math.ceil(columns / 256) * 320; // 256 values, their scale, start and sums, and a rest
  }
  const panels = outer.reduce((n, d) => n * d, 1) * Math.ceil(rows / 32);
  if (!isQuantised(type)) return (panels * 32 * Math.ceil(columns / 2) * 2 * bits) / 8;
  const groupBytes = (32 * 32 * bits) / 8 + (type.dtype === "int8" ? 0 : 64); // values; step and offset of each row
  return panels * (Math.ceil(columns / 32) * groupBytes + Math.ceil(columns / 256) * 32 * 4);
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
