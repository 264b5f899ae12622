import { philox, philoxKey } from "@zaya/model/internal";

/** A number in [0, 1) with 53 random bits: draw `index` of the stream `(seed, stream)`. The seed is any safe integer. */
export function uniform(seed: number, stream: number, index: number): number {
  const words = new Uint32Array(4);
  philox(index, Math.floor(index / 2 ** 32), stream, 0, philoxKey(seed), words);
  const [a = 0, b = 0] = words;
  return ((a >>> 5) * 2 ** 26 + (b >>> 6)) / 2 ** 53;
}
