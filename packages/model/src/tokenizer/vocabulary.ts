// The tokens of a tokenizer as one block of bytes and a hash table into it: a quarter of a million JavaScript strings would cost more
// time to make than all else that a server does at its start.
import { createByteBuffer, type JsonCursor, textOfBytes } from "./json_cursor.js";

/** Tokens and their ids. */
export interface Vocabulary {
  /** One more than the highest id. */
  readonly size: number;
  /** UTF-8 bytes of the longest token. */
  readonly maxBytes: number;
  get(token: string): number | undefined;
  /**
   * The id of the token whose UTF-8 lies in `bytes` from `start` to `end`, or -1. `guess` and the id after it are looked at before
   * the table, which is far away in memory.
   */
  find(bytes: Uint8Array, start: number, end: number, guess?: number): number;
  /** The token of an id, or undefined. */
  tokenOf(id: number): string | undefined;
  /** Whether the UTF-8 of an id's token begins with these bytes. */
  startsWith(id: number, prefix: Uint8Array): boolean;
}

/** Ids above this are a damaged file: tables are made for all ids up to the highest. */
export const largestId = 2 ** 24 - 1;

/**
 * Reads the object of tokens and ids that begins at the cursor. Where a token stands twice, the later id counts, as in JSON.
 *
 * @throws RangeError naming a token whose id is not a whole number up to `largestId`
 */
export function readVocabulary(cursor: JsonCursor): Vocabulary {
  const arena = createByteBuffer(1 << 16);
  // Four numbers a slot, side by side so that a look-up touches one cache line: hash, where the bytes begin and end, id + 1 (0: empty).
  let slots = new Int32Array(4 << 15);
  let starts = new Int32Array(1 << 16);
  let ids = new Int32Array(1 << 16);
  let count = 0;
  let highest = -1;
  const replaced: number[] = [];

  /** Index of the slot of a token: its own, or the empty one where it belongs. */
  function slotOf(hash: number, bytes: Uint8Array, start: number, end: number): number {
    const mask = slots.length - 1;
    for (let slot = (4 * hash) & mask; ; slot = (slot + 4) & mask) {
      if (slots[slot + 3] === 0) return slot;
      if (slots[slot] === hash && isAt(slots[slot + 1] as number, slots[slot + 2] as number, bytes, start, end)) return slot;
    }
  }
  /** Whether the arena holds these bytes from `at` to `to`. */
  function isAt(at: number, to: number, bytes: Uint8Array, start: number, end: number): boolean {
    if (to - at !== end - start) return false;
    const tokens = arena.bytes;
    for (let i = start; i < end; i++) if (bytes[i] !== tokens[at++]) return false;
    return true;
  }
  function growSlots(): void {
    const old = slots;
    slots = new Int32Array(4 * old.length);
    const mask = slots.length - 1;
    for (let from = 0; from < old.length; from += 4) {
      if (old[from + 3] === 0) continue;
      let slot = (4 * (old[from] as number)) & mask;
      while (slots[slot + 3] !== 0) slot = (slot + 4) & mask;
      for (let i = 0; i < 4; i++) slots[slot + i] = old[from + i] as number;
    }
  }

  let start = 0;
  cursor.forEachKey(arena, () => {
    cursor.peek();
    const from = cursor.at();
    const id = cursor.readWhole();
    if (id < 0 || id > largestId) {
      const token = JSON.stringify(textOfBytes(arena.bytes.subarray(start, arena.length)));
      cursor.seek(from);
      cursor.skip();
      throw new RangeError(`the id of ${token} is ${cursor.textFrom(from)}, not a whole number from 0 to ${largestId}`);
    }
    if (count + 1 === ids.length) [starts, ids] = [extended(starts), extended(ids)];
    if (8 * count > slots.length) growSlots();
    const hash = hashOf(arena.bytes, start, arena.length);
    const slot = slotOf(hash, arena.bytes, start, arena.length);
    if (slots[slot + 3] !== 0) replaced.push((slots[slot + 3] as number) - 1);
    slots[slot] = hash;
    slots[slot + 1] = start;
    slots[slot + 2] = arena.length;
    slots[slot + 3] = id + 1;
    ids[count++] = id;
    starts[count] = arena.length;
    start = arena.length;
    highest = Math.max(highest, id);
  });

  // By id: where the bytes begin, and where they end.
  const places = new Int32Array(2 * (highest + 1)).fill(-1);
  let maxBytes = 0;
  for (let i = 0; i < count; i++) {
    const id = ids[i] as number;
    maxBytes = Math.max(maxBytes, (starts[i + 1] as number) - (starts[i] as number));
    places[2 * id] = starts[i] as number;
    places[2 * id + 1] = starts[i + 1] as number;
  }
  for (const id of replaced) {
    const [at, to] = [places[2 * id] as number, places[2 * id + 1] as number];
    if (slots[slotOf(hashOf(arena.bytes, at, to), arena.bytes, at, to) + 3] !== id + 1) places.fill(-1, 2 * id, 2 * id + 2);
  }
  const encoder = new TextEncoder();
  const isToken = (id: number, bytes: Uint8Array, start: number, end: number): boolean =>
    id >= 0 && id <= highest && isAt(places[2 * id] as number, places[2 * id + 1] as number, bytes, start, end);

  const vocabulary: Vocabulary = {
    size: highest + 1,
    maxBytes,
    get(token) {
      const bytes = encoder.encode(token);
      const id = vocabulary.find(bytes, 0, bytes.length);
      return id < 0 ? undefined : id;
    },
    find(bytes, start, end, guess = -2) {
      if (isToken(guess, bytes, start, end)) return guess;
      if (isToken(guess + 1, bytes, start, end)) return guess + 1;
      return (slots[slotOf(hashOf(bytes, start, end), bytes, start, end) + 3] as number) - 1;
    },
    tokenOf(id) {
      const at = places[2 * id] ?? -1;
      return at < 0 ? undefined : textOfBytes(arena.bytes.subarray(at, places[2 * id + 1]));
    },
    startsWith(id, prefix) {
      const at = places[2 * id] as number;
      return at >= 0 && (places[2 * id + 1] as number) - at >= prefix.length && isAt(at, at + prefix.length, prefix, 0, prefix.length);
    },
  };
  return vocabulary;
}

function hashOf(bytes: Uint8Array, start: number, end: number): number {
  let hash = 0;
  for (let i = start; i < end; i++) hash = Math.imul(hash ^ (bytes[i] as number), 0x9e3779b1) ^ (hash >>> 15);
  return hash ^ (hash >>> 16);
}

/** The same table with room for as many again. */
export function extended(table: Int32Array): Int32Array<ArrayBuffer> {
  const larger = new Int32Array(2 * table.length);
  larger.set(table);
  return larger;
}
