import { createByteBuffer, type JsonCursor } from "./json_cursor.js";
import { extended, type Vocabulary } from "./vocabulary.js";

/** The merges of a BPE model, by rank: the ids of what is joined, of what comes out, and a hash table from pairs to ranks. */
export interface Merges {
  readonly count: number;
  readonly lefts: Int32Array;
  readonly rights: Int32Array;
  readonly joined: Int32Array;
  /** Rank of a pair of ids, or -1. */
  find(left: number, right: number): number;
}

const quote = 0x22;
const space = 0x20;

/**
 * Reads the list of pairs that begins at the cursor, each `["a", "b"]` or `"a b"`.
 *
 * @throws RangeError naming a merge that is no pair, or of tokens that are not in the vocabulary
 */
export function readMerges(cursor: JsonCursor, vocabulary: Vocabulary): Merges {
  let lefts = new Int32Array(1 << 16);
  let rights = new Int32Array(1 << 16);
  let joined = new Int32Array(1 << 16);
  let count = 0;
  const pair = createByteBuffer();
  let middle = 0;
  let sides = 0;
  const readSide = (side: number) => {
    if (side === 1) middle = pair.length;
    cursor.readString(pair);
    sides++;
  };
  /** Puts both sides into `pair`, the second from `middle` on, and returns whether there are two. */
  const readPair = (): boolean => {
    pair.length = 0;
    if (cursor.peek() !== quote) {
      sides = 0;
      cursor.forEachElement(readSide);
      return sides === 2;
    }
    cursor.readString(pair);
    middle = pair.bytes.subarray(0, pair.length).indexOf(space, 1);
    if (middle < 0) return false;
    pair.bytes.copyWithin(middle, middle + 1, pair.length--);
    return true;
  };
  let both = -2;
  cursor.forEachElement((rank) => {
    if (!readPair()) throw new RangeError(`merge ${rank} is not a pair of tokens`);
    const left = vocabulary.find(pair.bytes, 0, middle);
    const right = vocabulary.find(pair.bytes, middle, pair.length);
    // One token often comes out of several merges in a row, and tokens mostly stand in the order of their merges.
    both = vocabulary.find(pair.bytes, 0, pair.length, both);
    if (left < 0 || right < 0 || both < 0) {
      const [a, b] = [pair.bytes.subarray(0, middle), pair.bytes.subarray(middle, pair.length)].map((side) =>
        JSON.stringify(new TextDecoder().decode(side)),
      );
      throw new RangeError(`merge ${rank} (${a} ${b}) uses a token that is not in the vocabulary`);
    }
    if (rank === joined.length) [lefts, rights, joined] = [extended(lefts), extended(rights), extended(joined)];
    lefts[rank] = left;
    rights[rank] = right;
    joined[rank] = both;
    count++;
  });

  const bits = Math.max(4, Math.ceil(Math.log2(count * 2 + 1)));
  const slots = new Int32Array(1 << bits);
  const mask = slots.length - 1;
  const slotOf = (left: number, right: number): number => {
    let slot = (Math.imul(left, 0x9e3779b1) ^ Math.imul(right, 0x85ebca6b)) >>> (32 - bits);
    for (let rank = (slots[slot] as number) - 1; rank >= 0; rank = (slots[slot] as number) - 1) {
      if (lefts[rank] === left && rights[rank] === right) break;
      slot = (slot + 1) & mask;
    }
    return slot;
  };
  for (let rank = 0; rank < count; rank++) slots[slotOf(lefts[rank] as number, rights[rank] as number)] = rank + 1;
  return { count, lefts, rights, joined, find: (left, right) => (slots[slotOf(left, right)] as number) - 1 };
}
