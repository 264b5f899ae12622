// Trains a byte-level BPE vocabulary: the words of the texts are counted once; then the pair of neighbouring symbols that occurs most
// often becomes a token, until the vocabulary is full. Of equally frequent pairs the one with the lower ids wins, so the same texts
// always give the same file.

import { setImmediate } from "node:timers/promises";
import { fail } from "../errors.js";
import type { TokenizerFiles } from "../save.js";
import { ownCopy } from "./bpe.js";
import { byteCharacters, forEachWord } from "./byte_level.js";

export interface TrainTokenizerOptions {
  /** Tokens in all: special tokens, 256 bytes, and the merges that fit. Fewer come out when no pair is left that occurs twice. */
  readonly vocabSize: number;
  /** Further special tokens; they get the ids after the five that every tokenizer has. */
  readonly specialTokens?: readonly string[] | undefined;
  /** Read no more than about this many bytes of text. Default: all. */
  readonly maxBytes?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** The special tokens of a trained tokenizer, by id. pad, eos and bos have ZAYA1's ids. */
const trainedSpecialTokens = ["<pad>", "<eos>", "<bos>", "<|im_start|>", "<|im_end|>"] as const;

const chatTemplate = `{{ bos_token }}{% for message in messages %}<|im_start|>{{ message['role'] }}
{{ message['content'] }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}`;

/**
 * Trains a tokenizer and returns its files, which `loadTokenizer` opens, `saveTokenizer` writes, and the reference library reads to the same ids.
 * Answers of a model that is trained with it end at `<eos>` and at `<|im_end|>` (generation_config.json).
 * Ids: 0 `<pad>`, 1 `<eos>`, 2 `<bos>`, 3 `<|im_start|>`, 4 `<|im_end|>`, further special tokens, the 256 bytes, the merges.
 * Encoding puts one bos before a text; decode(encode(text)) is the text, whatever it holds but special tokens (which decode leaves out) and halves of
 * surrogate pairs (which become U+FFFD). Throws INVALID_ARGUMENT.
 *
 * @example const files = await trainTokenizer(["some text", "more text"], { vocabSize: 300 });
 */
export async function trainTokenizer(
  texts: string | Iterable<string> | AsyncIterable<string>,
  options: TrainTokenizerOptions,
): Promise<TokenizerFiles> {
  const { vocabSize, specialTokens = [], maxBytes = Number.POSITIVE_INFINITY, signal } = options;
  const special = [...new Set<string>([...trainedSpecialTokens, ...specialTokens])];
  const smallest = special.length + 256;
  if (!Number.isInteger(vocabSize) || vocabSize < smallest || vocabSize > largestVocabulary) {
    const parts = `${special.length} special tokens and 256 bytes`;
    fail(
      "INVALID_ARGUMENT",
      `vocabSize: expected a whole number from ${smallest} (${parts}) to ${largestVocabulary}, received ${vocabSize}`,
    );
  }
  if (special.includes("")) fail("INVALID_ARGUMENT", "specialTokens: an empty string cannot be a token");
  const taken = special.find((token) => byteCharacters.includes(token));
  if (taken !== undefined)
    fail("INVALID_ARGUMENT", `specialTokens: ${JSON.stringify(taken)} stands for a byte and cannot be a special token`);

  const words = await countWords(typeof texts === "string" ? [texts] : texts, maxBytes, signal);
  const tokens = [...special, ...byteCharacters];
  const merges: (readonly [string, string])[] = [];
  for await (const merge of findMerges(words, tokens, special.length, vocabSize)) {
    signal?.throwIfAborted();
    merges.push(merge);
  }
  return describeTokenizer(tokens, merges, special);
}

const largestVocabulary = 2 ** 20;

async function countWords(
  texts: Iterable<string> | AsyncIterable<string>,
  maxBytes: number,
  signal?: AbortSignal,
): Promise<ReadonlyMap<string, number>> {
  const counts = new Map<string, number>();
  let bytes = 0;
  for await (const text of texts) {
    signal?.throwIfAborted();
    const left = maxBytes - bytes;
    if (left <= 0) break;
    forEachWord(text.length > left ? text.slice(0, left) : text, (word) => {
      const count = counts.get(word);
      if (count === undefined) counts.set(ownCopy(word), 1);
      else counts.set(word, count + 1);
    });
    bytes += Buffer.byteLength(text);
  }
  return counts;
}

/**
 * Yields the merges in order and appends their tokens to `tokens`, which starts as the special tokens and the 256 bytes.
 * Lets the event loop run now and then.
 */
async function* findMerges(
  words: ReadonlyMap<string, number>,
  tokens: string[],
  firstByte: number,
  vocabSize: number,
): AsyncGenerator<readonly [string, string]> {
  // All words lie in one array; word w owns symbols[start[w] .. start[w] + length[w]] and occurs weight[w] times.
  const { symbols, starts, lengths, weights } = layOut(words, firstByte);
  const counts = new Map<number, number>();
  const places = new Map<number, number[]>();
  const keyOf = (left: number, right: number) => left * largestVocabulary + right;
  const touched = new Set<number>();

  function add(left: number, right: number, word: number, sign: 1 | -1): void {
    const key = keyOf(left, right);
    counts.set(key, (counts.get(key) ?? 0) + sign * (weights[word] as number));
    if (sign < 0) return;
    touched.add(key);
    const list = places.get(key);
    if (!list) places.set(key, [word]);
    else if (list[list.length - 1] !== word) list.push(word);
  }
  for (let word = 0; word < starts.length; word++) {
    const start = starts[word] as number;
    const end = start + (lengths[word] as number);
    for (let i = start; i + 1 < end; i++) add(symbols[i] as number, symbols[i + 1] as number, word, 1);
  }
  const heap = createPairHeap();
  for (const key of touched) heap.push(key, counts.get(key) as number);
  touched.clear();

  const special = new Set(tokens.slice(0, firstByte));
  while (tokens.length < vocabSize) {
    const top = heap.pop();
    if (!top) return;
    const count = counts.get(top.key) ?? 0;
    if (count !== top.count) {
      // A join only ever lowers the count of a pair that was there before, so the entry goes back where it belongs now.
      if (count > 0) heap.push(top.key, count);
      continue;
    }
    if (count < 2) return;
    const left = Math.floor(top.key / largestVocabulary);
    const right = top.key % largestVocabulary;
    const merge = [tokens[left] as string, tokens[right] as string] as const;
    const token = merge.join("");
    // A special token is found before words are looked at; no merge may lead to it.
    if (special.has(token)) continue;
    const id = tokens.push(token) - 1;
    for (const word of places.get(top.key) ?? []) join(word, left, right, id);
    places.delete(top.key);
    counts.delete(top.key);
    for (const key of touched) heap.push(key, counts.get(key) as number);
    touched.clear();
    yield merge;
    if (tokens.length % 64 === 0) await setImmediate();
  }

  function join(word: number, left: number, right: number, id: number): void {
    const start = starts[word] as number;
    const end = start + (lengths[word] as number);
    let to = start;
    for (let from = start; from < end; from++) {
      const symbol = symbols[from] as number;
      if (symbol !== left || from + 1 >= end || symbols[from + 1] !== right) {
        symbols[to++] = symbol;
        continue;
      }
      // What stands before has already been joined; what stands after has not.
      if (to > start) {
        const before = symbols[to - 1] as number;
        add(before, left, word, -1);
        add(before, id, word, 1);
      }
      if (from + 2 < end) {
        const after = symbols[from + 2] as number;
        add(right, after, word, -1);
        add(id, after, word, 1);
      }
      symbols[to++] = id;
      from++;
    }
    lengths[word] = to - start;
  }
}

function layOut(words: ReadonlyMap<string, number>, firstByte: number) {
  const encoded = Array.from(words.keys(), (word) => Buffer.from(word));
  const lengths = Int32Array.from(encoded, (bytes) => bytes.length);
  const starts = new Int32Array(lengths.length);
  for (let word = 1; word < starts.length; word++) starts[word] = (starts[word - 1] as number) + (lengths[word - 1] as number);
  const symbols = new Int32Array((starts.at(-1) ?? 0) + (lengths.at(-1) ?? 0));
  encoded.forEach((bytes, word) => {
    for (let i = 0; i < bytes.length; i++) symbols[(starts[word] as number) + i] = firstByte + (bytes[i] as number);
  });
  return { symbols, starts, lengths, weights: Float64Array.from(words.values()) };
}

interface PairHeap {
  push(key: number, count: number): void;
  pop(): { readonly key: number; readonly count: number } | null;
}

/** A binary heap: the highest count first, of equal counts the lowest key. */
function createPairHeap(): PairHeap {
  const keys: number[] = [];
  const counts: number[] = [];
  const isBefore = (i: number, key: number, count: number) =>
    (counts[i] as number) > count || (counts[i] === count && (keys[i] as number) < key);
  const put = (i: number, key: number, count: number) => {
    keys[i] = key;
    counts[i] = count;
  };
  return {
    push(key, count) {
      let i = keys.length;
      for (let parent = (i - 1) >> 1; i > 0 && !isBefore(parent, key, count); parent = (i - 1) >> 1) {
        put(i, keys[parent] as number, counts[parent] as number);
        i = parent;
      }
      put(i, key, count);
    },
    pop() {
      if (keys.length === 0) return null;
      const top = { key: keys[0] as number, count: counts[0] as number };
      const key = keys.pop() as number;
      const count = counts.pop() as number;
      if (keys.length === 0) return top;
      let i = 0;
      for (let child = 1; child < keys.length; child = 2 * i + 1) {
        if (child + 1 < keys.length && isBefore(child + 1, keys[child] as number, counts[child] as number)) child++;
        if (!isBefore(child, key, count)) break;
        put(i, keys[child] as number, counts[child] as number);
        i = child;
      }
      put(i, key, count);
      return top;
    },
  };
}

function describeTokenizer(
  tokens: readonly string[],
  merges: readonly (readonly [string, string])[],
  special: readonly string[],
): TokenizerFiles {
  const bos = { SpecialToken: { id: "<bos>", type_id: 0 } };
  const tokenizer = {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: special.map((content, id) => ({
      id,
      content,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: true,
    })),
    normalizer: null,
    pre_tokenizer: { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true },
    post_processor: {
      type: "TemplateProcessing",
      single: [bos, { Sequence: { id: "A", type_id: 0 } }],
      pair: [bos, { Sequence: { id: "A", type_id: 0 } }, bos, { Sequence: { id: "B", type_id: 1 } }],
      special_tokens: { "<bos>": { id: "<bos>", ids: [special.indexOf("<bos>")], tokens: ["<bos>"] } },
    },
    decoder: { type: "ByteLevel", add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: {
      type: "BPE",
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
      merges,
    },
  };
  const config = {
    tokenizer_class: "PreTrainedTokenizerFast",
    bos_token: "<bos>",
    eos_token: "<eos>",
    pad_token: "<pad>",
    clean_up_tokenization_spaces: false,
    chat_template: chatTemplate,
  };
  return {
    "tokenizer.json": `${JSON.stringify(tokenizer, null, 1)}\n`,
    "tokenizer_config.json": `${JSON.stringify(config, null, 1)}\n`,
    // The end of a turn ends an answer, as the end of a text does.
    "generation_config.json": `${JSON.stringify({ eos_token_id: [special.indexOf("<eos>"), special.indexOf("<|im_end|>")] }, null, 1)}\n`,
  };
}
