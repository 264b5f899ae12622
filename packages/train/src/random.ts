// Random numbers without state: every number is a function of (seed, stream, position), so any part of a sequence can be made
// alone, in any order, and a resumed run draws what an uninterrupted one draws.
// The numbers are Philox's, from @zaya/model.
import { philox, philoxKey } from "@zaya/model/internal";

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
