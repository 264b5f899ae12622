import fc from "fast-check";
import { expect, test } from "vitest";
import { type BpeModel, createWordEncoder } from "./bpe.js";
import { createJsonCursor } from "./json_cursor.js";
import { readMerges } from "./merges.js";
import { readVocabulary } from "./vocabulary.js";

function model(tokens: readonly string[], merges: readonly string[], options: Partial<BpeModel> = {}): BpeModel {
  const cursorAt = (json: unknown) => createJsonCursor(new TextEncoder().encode(JSON.stringify(json)));
  const vocab = readVocabulary(cursorAt(Object.fromEntries(tokens.map((token, id) => [token, id]))));
  return {
    vocab,
    merges: readMerges(cursorAt(merges), vocab),
    unknownToken: null,
    fuseUnknown: false,
    byteFallback: false,
    ignoreMerges: false,
    ...options,
  };
}

test("joins the pair of the lowest rank first, the leftmost of equals", () => {
  const encode = createWordEncoder(model(["a", "b", "c", "bc", "ab", "aa"], ["b c", "a b", "a a"]));
  expect(encode("abc")).toEqual([0, 3]);
  expect(encode("abab")).toEqual([4, 4]);
  expect(encode("aaaaa")).toEqual([5, 5, 0]);
  expect(encode("")).toEqual([]);
});

test("gives what joining one pair at a time gives", () => {
  const tokens = ["a", "b", "c", "ab", "bc", "abc", "ca", "aa", "abab", "cab"];
  const merges = ["a b", "ab ab", "b c", "ab c", "c a", "a a", "c ab"];
  const encode = createWordEncoder(model(tokens, merges));
  fc.assert(
    fc.property(fc.string({ unit: fc.constantFrom("a", "b", "c"), maxLength: 80 }), (word) => {
      expect(encode(word).map((id) => tokens[id])).toEqual(oneAtATime(word, merges));
    }),
  );
});

function oneAtATime(word: string, merges: readonly string[]): string[] {
  const symbols = [...word];
  for (;;) {
    const ranks = symbols.slice(1).map((right, i) => merges.indexOf(`${symbols[i]} ${right}`));
    const best = Math.min(...ranks.filter((rank) => rank >= 0));
    if (!Number.isFinite(best)) return symbols;
    const at = ranks.indexOf(best);
    symbols.splice(at, 2, `${symbols[at]}${symbols[at + 1]}`);
  }
}

test("writes characters outside the vocabulary as bytes, else as the unknown token, else not at all", () => {
  const bytes = ["<0xC3>", "<0xA9>"];
  expect(createWordEncoder(model(["a", ...bytes], [], { byteFallback: true }))("aéa")).toEqual([0, 1, 2, 0]);
  expect(createWordEncoder(model(["a", "?"], [], { unknownToken: "?" }))("éba")).toEqual([1, 1, 0]);
  expect(createWordEncoder(model(["a", "?"], [], { unknownToken: "?", fuseUnknown: true }))("ébaé")).toEqual([1, 0, 1]);
  expect(createWordEncoder(model(["a"], []))("éa")).toEqual([0]);
});

test("takes a whole word from the vocabulary when merges are to be ignored", () => {
  const parts = model(["a", "b", "ab"], []);
  expect(createWordEncoder(parts)("ab")).toEqual([0, 1]);
  expect(createWordEncoder({ ...parts, ignoreMerges: true })("ab")).toEqual([2]);
});

test("cuts lines at space marks only where no merge reaches across", () => {
  const tokens = ["a", ">", "▁", "▁a", ">▁a", "a▁a", "▁▁"];
  const merges = ["▁ ▁", "▁ a", "> ▁a"];
  const encode = createWordEncoder(model(tokens, merges));
  expect(encode("a▁a>▁a▁▁a").map((id) => tokens[id])).toEqual(oneAtATime("a▁a>▁a▁▁a", merges));
  expect(encode(">▁a")).toEqual([4]);
});
