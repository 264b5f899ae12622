// Random numbers without state: every number is a function of (seed, stream, position), so any part of a sequence can be made
// alone, in any order, and a resumed run draws what an uninterrupted one draws.
// The numbers are Philox's, from @zaya/model.
import { philox, philoxKey } from "@zaya/model";

/**
 * The place of `index` in a shuffled order of 0 … count−1. For a fixed (seed, stream) this is a permutation, computed in constant
 * time and memory: a balanced Feistel network on the next power of four, walked until it lands below `count`.
 */
export function permute(seed: number, stream: number, index: number, count: number): number {
  if (count <= 1) return 0;
  const half = Math.max(1, Math.ceil(Math.log2(count) / 2));
  const base = 2 ** half;
  const key = philoxKey(seed);
  const words = new Uint32Array(4);
  let value = index;
  do {
    let left = Math.floor(value / base);
    let right = value % base;
    for (let round = 0; round < 6; round++) {
      philox(right, round, stream, 1, key, words);
      const mixed = (left ^ ((words[0] as number) % base)) >>> 0;
      left = right;
      right = mixed;
    }
    value = left * base + right;
  } while (value >= count);
  return value;
}

/**
 * Normal numbers as bfloat16 bits, many in little time: `out[i]` is element `offset + i` (a multiple of eight) of the sequence (seed, stream).
 * Each 16-bit part of a Philox word picks one of the 65 536 midpoint quantiles of the distribution, rounded to bfloat16 beforehand.
 */
export function fillNormalBfloat16(out: Uint16Array, deviation: number, seed: number, stream: number, offset = 0): void {
  const table = bfloat16Quantiles(deviation);
  const words = new Uint32Array(4);
  const key = philoxKey(seed);
  for (let i = 0; i < out.length; i += 8) {
    const block = (offset + i) / 8;
    philox(block >>> 0, Math.floor(block / 2 ** 32), stream, 2, key, words);
    for (let w = 0; w < 4; w++) {
      const word = words[w] as number;
      out[i + 2 * w] = table[word & 0xffff] as number; // writes past the end are ignored
      out[i + 2 * w + 1] = table[word >>> 16] as number;
    }
  }
}

const quantileTables = new Map<number, Uint16Array>();

function bfloat16Quantiles(deviation: number): Uint16Array {
  const known = quantileTables.get(deviation);
  if (known) return known;
  const bits = new Uint32Array(Float32Array.from({ length: 65536 }, (_, i) => deviation * normalQuantile((i + 0.5) / 65536)).buffer);
  const table = Uint16Array.from(bits, (word) => (word + 0x7fff + ((word >>> 16) & 1)) >>> 16); // to nearest, ties to even
  quantileTables.set(deviation, table);
  return table;
}

/** A 32-bit stream number for a name (FNV-1a). */
export function streamOf(name: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < name.length; i++) hash = Math.imul(hash ^ name.charCodeAt(i), 0x01000193);
  return hash >>> 0;
}

/** Inverse of the normal distribution function for p in (0, 1): Acklam's rational approximation, relative error below 1.2e-9. */
function normalQuantile(p: number): number {
  const a = [-3.969683028665376e1, 2.209460984245205e2, -2.759285104469687e2, 1.38357751867269e2, -3.066479806614716e1, 2.506628277459239];
  const b = [-5.447609879822406e1, 1.615858368580409e2, -1.556989798598866e2, 6.680131188771972e1, -1.328068155288572e1, 1];
  const c = [-7.784894002430293e-3, -3.223964580411365e-1, -2.400758277161838, -2.549732539343734, 4.374664141464968, 2.938163982698783];
  const d = [7.784695709041462e-3, 3.224671290700398e-1, 2.445134137142996, 3.754408661907416, 1];
  if (p > 0.5) return -normalQuantile(1 - p);
  if (p < 0.02425) {
    const q = Math.sqrt(-2 * Math.log(p));
    return polynomial(c, q) / polynomial(d, q);
  }
  const q = p - 0.5;
  return (polynomial(a, q * q) * q) / polynomial(b, q * q);
}

function polynomial(coefficients: readonly number[], x: number): number {
  return coefficients.reduce((sum, coefficient) => sum * x + coefficient, 0);
}
