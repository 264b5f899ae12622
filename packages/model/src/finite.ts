import type { WeightType } from "./layout.js";

/**
 * A number is NaN or infinite when every bit of its exponent is set; then adding the exponent's lowest bit carries into the sign bit,
 * which was masked away. `exponent` and `lowest` hold one float32 or two halves in 32 bits.
 */
const masks = {
  F32: { exponent: 0x7f800000, lowest: 0x00800000, fraction: 0x007fffff },
  BF16: { exponent: 0x7f807f80, lowest: 0x00800080, fraction: 0x007f },
  F16: { exponent: 0x7c007c00, lowest: 0x04000400, fraction: 0x03ff },
} as const;

/** The first element that is not a finite number. */
export function firstNotFinite(
  bytes: Uint8Array,
  dtype: WeightType,
): { readonly element: number; readonly what: "NaN" | "an infinity" } | null {
  const { exponent, lowest } = masks[dtype];
  const aligned = bytes.byteOffset % 4 === 0;
  const words = new Int32Array(bytes.buffer, aligned ? bytes.byteOffset : 0, aligned ? Math.floor(bytes.length / 4) : 0);
  let carries = 0;
  for (let i = 0; i < words.length; i++) carries |= ((words[i] as number) & exponent) + lowest;
  const signs = dtype === "F32" ? 0x80000000 : 0x80008000;
  const rest = bytes.subarray(words.byteLength);
  return (carries & signs) === 0 ? find(rest, dtype, words.byteLength) : find(bytes, dtype, 0);
}

/** The same, element by element. */
function find(bytes: Uint8Array, dtype: WeightType, before: number): ReturnType<typeof firstNotFinite> {
  const { exponent, fraction } = masks[dtype];
  const size = dtype === "F32" ? 4 : 2;
  if (bytes.byteOffset % size !== 0) return find(bytes.slice(), dtype, before);
  const elements =
    size === 4
      ? new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4)
      : new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.length / 2);
  const all = size === 4 ? exponent : exponent & 0xffff;
  for (let i = 0; i < elements.length; i++) {
    const bits = elements[i] as number;
    if ((bits & all) === all) return { element: before / size + i, what: bits & fraction ? "NaN" : "an infinity" };
  }
  return null;
}
