import fc from "fast-check";
import { expect, test } from "vitest";
import { byteCharacters, forEachWord, fromByteCharacters, toByteCharacters } from "./byte_level.js";

function wordsOf(text: string): string[] {
  const words: string[] = [];
  forEachWord(text, (word) => words.push(word));
  return words;
}

test("gives every byte a character of its own, as GPT-2 does", () => {
  expect(new Set(byteCharacters).size).toBe(256);
  expect(byteCharacters.every((character) => character.length === 1 && !/\s/.test(character))).toBe(true);
  expect(toByteCharacters(" é\n")).toBe("ĠÃ©Ċ");
});

test("reads a token back to bytes, and an added token outside the alphabet as its UTF-8", () => {
  expect(fromByteCharacters("ĠÃ©")).toEqual(new TextEncoder().encode(" é"));
  expect(fromByteCharacters("\n\n")).toEqual(Uint8Array.of(10, 10));
});

test("cuts words as the reference's ByteLevel pre-tokenizer does", () => {
  expect(wordsOf("I'll  go,\n\n then 12x")).toEqual(["I", "'ll", " ", " go", ",", "\n\n", " then", " 12", "x"]);
  expect(wordsOf("a \t b  ")).toEqual(["a", " \t", " b", "  "]);
});

test("takes white space from Unicode: U+0085 is, U+FEFF is not", () => {
  expect(wordsOf("a\u0085b\ufeff!")).toEqual(["a", "\u0085", "b", "\ufeff!"]);
});

test("cuts long texts into the words of the whole", () => {
  const pattern =
    /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+/gu;
  const text = fc.string({ unit: fc.constantFrom(..." \n\tab1!'s漢🙂"), minLength: 50, maxLength: 100 });
  fc.assert(
    fc.property(text, (part) => {
      const long = part.repeat(Math.ceil(140_000 / part.length));
      expect(wordsOf(long)).toEqual(long.match(pattern));
    }),
    { numRuns: 8 },
  );
});
