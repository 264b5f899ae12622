import { Tokenizer as IndependentTokenizer } from "@huggingface/tokenizers";
import fc from "fast-check";
import { beforeAll, describe, expect, test } from "vitest";
import type { TokenizerFiles } from "../save.js";
import reference from "./testdata/reference.json" with { type: "json" };
import { loadTokenizer, type Tokenizer } from "./tokenizer.js";
import { trainTokenizer } from "./train.js";

const jsonOf = (files: TokenizerFiles) => JSON.parse(files["tokenizer.json"] as string);
const options = { vocabSize: 400, specialTokens: ["<zyphra_tool_call>"] };

describe("a trained tokenizer", () => {
  let tokenizer: Tokenizer;
  beforeAll(async () => {
    tokenizer = await loadTokenizer(await trainTokenizer(reference.texts, options));
  });

  test("is the same file every time, from a list or from a stream", async () => {
    async function* stream() {
      yield* reference.texts;
    }
    expect(jsonOf(await trainTokenizer(stream(), options))).toEqual(reference.trained);
  });

  test("is read to the same ids and texts by the reference library", () => {
    reference.texts.forEach((text, i) => {
      expect(tokenizer.encode(text), JSON.stringify(text)).toEqual(reference.ids.byteLevel[i]);
      expect(tokenizer.decode(reference.ids.byteLevel[i] as number[])).toBe(reference.decoded.byteLevel[i]);
    });
  });

  test("is read to the same ids by @huggingface/tokenizers", () => {
    const independent = new IndependentTokenizer(reference.trained, {});
    // Its pre-tokenizer takes white space from JavaScript, the reference from Unicode; they differ in these two characters.
    for (const text of reference.texts.filter((each) => each.length > 0 && !/[\u0085\ufeff]/.test(each))) {
      expect(independent.encode(text).ids, JSON.stringify(text)).toEqual(tokenizer.encode(text));
    }
  });

  test("gives any text back", () => {
    const plain = { addSpecialTokens: false };
    fc.assert(
      fc.property(
        fc.oneof(fc.string({ unit: "binary" }), fc.string({ unit: fc.constantFrom(..." \n\r\ttheca<|im_start|>🙂é") })),
        (text) => {
          const ids = tokenizer.encode(text, plain);
          const stream = tokenizer.decodeStream({ skipSpecialTokens: false });
          expect(tokenizer.decode(ids, { skipSpecialTokens: false })).toBe(text);
          expect(ids.map((id) => stream.push(id)).join("") + stream.flush()).toBe(text);
        },
      ),
      { numRuns: 500 },
    );
  });

  test("has pad, eos and bos where ZAYA1 has them", () => {
    expect(tokenizer).toMatchObject({ vocabSize: 386, padTokenId: 0, eosTokenId: 1, bosTokenId: 2 });
    expect(["<|im_start|>", "<|im_end|>", "<zyphra_tool_call>", "Ā"].map(tokenizer.tokenToId)).toEqual([3, 4, 5, 6]);
  });

  test("opens a conversation with one bos and ends it with the assistant's turn", () => {
    const messages = [{ role: "user", content: "the cat" }];
    expect(tokenizer.applyChatTemplate(messages, { addGenerationPrompt: true })).toBe(
      "<bos><|im_start|>user\nthe cat<|im_end|>\n<|im_start|>assistant\n",
    );
    expect(tokenizer.encodeChat(messages).filter((id) => id === 2)).toHaveLength(1);
  });
});

test("joins the most frequent pair first, of equals the one with the lower ids", async () => {
  const { merges } = jsonOf(await trainTokenizer(["xyxy zz zz abab"], { vocabSize: 5 + 256 + 4 })).model;
  // In words: "xyxy", " zz" twice, " abab". Four pairs occur twice; bytes decide: the space, a, x, and " z" is a later token than z.
  expect(merges).toEqual([
    ["Ġ", "z"],
    ["a", "b"],
    ["x", "y"],
    ["Ġz", "z"],
  ]);
});

test("makes the merges that counting every pair anew each time makes", async () => {
  const text = fc.array(fc.stringMatching(/^[ab]{1,12}$|^[a-d]{1,8}$/), { minLength: 1, maxLength: 30 });
  await fc.assert(
    fc.asyncProperty(text, async (words) => {
      const { merges } = jsonOf(await trainTokenizer([words.join(" ")], { vocabSize: 285 })).model;
      expect(merges).toEqual(
        countEveryTime(
          words.map((word, i) => (i === 0 ? word : `Ġ${word}`)),
          285 - 261,
        ),
      );
    }),
  );
});

function countEveryTime(words: readonly string[], most: number): string[][] {
  let split = words.map((word) => [...word]);
  // The byte alphabet's order is that of the bytes, and the space comes before the letters.
  const order = ["Ġ", "a", "b", "c", "d"];
  const merges: string[][] = [];
  while (merges.length < most) {
    const counts = new Map<string, number>();
    for (const word of split) for (let i = 1; i < word.length; i++) add(counts, `${word[i - 1]} ${word[i]}`);
    const rank = (pair: string) => pair.split(" ").map((token) => order.indexOf(token)) as [number, number];
    const best = [...counts.keys()].sort((x, y) => {
      const [[a, b], [c, d]] = [rank(x), rank(y)];
      return (counts.get(y) as number) - (counts.get(x) as number) || a - c || b - d;
    })[0];
    if (best === undefined || (counts.get(best) as number) < 2) break;
    const [left, right] = best.split(" ") as [string, string];
    merges.push([left, right]);
    order.push(left + right);
    split = split.map((word) => joinPairs(word, left, right));
  }
  return merges;
}

function add(counts: Map<string, number>, key: string): void {
  counts.set(key, (counts.get(key) ?? 0) + 1);
}

function joinPairs(word: readonly string[], left: string, right: string): string[] {
  const joined: string[] = [];
  for (let i = 0; i < word.length; i++) {
    const both = word[i] === left && word[i + 1] === right;
    joined.push(both ? left + right : (word[i] as string));
    if (both) i++;
  }
  return joined;
}

test("takes one text as it is, not letter by letter", async () => {
  expect(await trainTokenizer("hello hello hello", { vocabSize: 300 })).toEqual(
    await trainTokenizer(["hello hello hello"], { vocabSize: 300 }),
  );
});

test("stops where no pair occurs twice", async () => {
  const tokenizer = await loadTokenizer(await trainTokenizer(["abcabc"], { vocabSize: 1000 }));
  expect(tokenizer.vocabSize).toBe(5 + 256 + 2);
});

test("never makes a special token out of a text that spells it", async () => {
  const tokenizer = await loadTokenizer(await trainTokenizer(["<pad><pad>x<pad><pad>"], { vocabSize: 300 }));
  expect(tokenizer.tokenToId("<pad>")).toBe(0);
  expect(tokenizer.encode("<pad", { addSpecialTokens: false })).not.toContain(0);
});

test("reads no more than it was told to", async () => {
  let taken = 0;
  function* texts() {
    for (; ; taken++) yield "0123456789".repeat(10);
  }
  await trainTokenizer(texts(), { vocabSize: 270, maxBytes: 1000 });
  expect(taken).toBe(10);
});

test.each([
  [{ vocabSize: 260 }, "expected a whole number from 261 (5 special tokens and 256 bytes)"],
  [{ vocabSize: 300.5 }, "received 300.5"],
  [{ vocabSize: 300, specialTokens: [""] }, "an empty string cannot be a token"],
  [{ vocabSize: 300, specialTokens: ["<x>", "Ġ"] }, '"Ġ" stands for a byte and cannot be a special token'],
])("refuses %o", async (wrong, message) => {
  await expect(trainTokenizer(["text"], wrong)).rejects.toMatchObject({
    code: "INVALID_ARGUMENT",
    message: expect.stringContaining(message),
  });
});

test("stops when it is aborted", async () => {
  const reason = new Error("enough");
  await expect(trainTokenizer(["text"], { vocabSize: 300, signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
});
