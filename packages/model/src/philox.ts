/**
 * Philox 4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011): four 32-bit random words as a pure function of
 * a 128-bit counter and a 64-bit key. The same counter and key give the same words everywhere; there is no state to keep or to save.
 */

const multiplier0 = 0xd2511f53;
const multiplier1 = 0xcd9e8d57;
const weyl0 = 0x9e3779b9;
const weyl1 = 0xbb67ae85;

/** A 64-bit key as two words. */
export type PhiloxKey = readonly [number, number];

/** The key of a seed: any whole number up to 2^53. */
export function philoxKey(seed: number): PhiloxKey {
  return [seed >>> 0, Math.floor(seed / 2 ** 32) >>> 0];
}

/** Writes the four words of a counter to `out`. */
export function philox(c0: number, c1: number, c2: number, c3: number, key: PhiloxKey, out: Uint32Array): void {
  let a = c0 | 0;
  let b = c1 | 0;
  let c = c2 | 0;
  let d = c3 | 0;
  let k0 = key[0] | 0;
  let k1 = key[1] | 0;
  for (let round = 0; round < 10; round++) {
    const high0 = multiplyHigh(multiplier0, a);
    const low0 = Math.imul(multiplier0, a);
    const high1 = multiplyHigh(multiplier1, c);
    const low1 = Math.imul(multiplier1, c);
    a = high1 ^ b ^ k0;
    b = low1;
    c = high0 ^ d ^ k1;
    d = low0;
    k0 = (k0 + weyl0) | 0;
    k1 = (k1 + weyl1) | 0;
  }
  out[0] = a;
  out[1] = b;
  out[2] = c;
  out[3] = d;
}

/** The upper 32 bits of the product of two unsigned 32-bit numbers, from four products of halves. */
function multiplyHigh(x: number, y: number): number {
  const xl = x & 0xffff;
  const xh = x >>> 16;
  const yl = y & 0xffff;
  const yh = y >>> 16;
  const a = Math.imul(xh, yl);
  const b = Math.imul(xl, yh);
  const middle = (Math.imul(xl, yl) >>> 16) + (a & 0xffff) + (b & 0xffff);
  return (Math.imul(xh, yh) + (a >>> 16) + (b >>> 16) + (middle >>> 16)) | 0;
}
