import fc from "fast-check";
import { expect, test } from "vitest";
import { createJsonCursor } from "./json_cursor.js";
import { readMerges } from "./merges.js";
import { readVocabulary } from "./vocabulary.js";

function cursorAt(text: string) {
  return createJsonCursor(new TextEncoder().encode(text));
}

function vocabularyOf(tokens: Readonly<Record<string, number>>) {
  return readVocabulary(cursorAt(JSON.stringify(tokens)));
}

/** Escapes every character outside ASCII, as some writers of JSON do. */
function escaped(text: string): string {
  return text.replace(/[^\n -~]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

test("holds what JSON.parse gives, however the text is escaped and spaced", () => {
  const token = fc.string({ unit: "grapheme", maxLength: 12 }).filter((text) => text !== "__proto__");
  fc.assert(
    fc.property(fc.dictionary(token, fc.nat(5000), { maxKeys: 300 }), fc.boolean(), fc.constantFrom(0, 2), (tokens, ascii, indent) => {
      const plain = JSON.stringify(tokens, null, indent);
      const text = ascii ? escaped(plain) : plain;
      const vocabulary = readVocabulary(cursorAt(text));
      for (const [name, id] of Object.entries(JSON.parse(text) as Record<string, number>)) expect(vocabulary.get(name)).toBe(id);
      expect(vocabulary.maxBytes).toBe(Math.max(0, ...Object.keys(tokens).map((name) => Buffer.byteLength(name))));
      expect(vocabulary.size).toBe(Math.max(-1, ...Object.values(tokens)) + 1);
      expect(vocabulary.get("a token that is not there")).toBeUndefined();
    }),
  );
});

test("gives tokens back by id, byte order marks and pairs of surrogates among them", () => {
  const vocabulary = vocabularyOf({ "\ufeff": 0, "🙂": 1, "\u0000": 2, "": 3, '"\\/': 7 });
  expect([0, 1, 2, 3, 4, 7, 8, -1].map(vocabulary.tokenOf)).toEqual([
    "\ufeff",
    "🙂",
    "\u0000",
    "",
    undefined,
    '"\\/',
    undefined,
    undefined,
  ]);
  const utf8 = new TextEncoder().encode("🙂");
  expect([0, 1, 5].map((id) => vocabulary.startsWith(id, utf8.subarray(0, 2)))).toEqual([false, true, false]);
  expect([0, 1, 7, 9].map((guess) => vocabulary.find(utf8, 0, utf8.length, guess))).toEqual([1, 1, 1, 1]);
});

test("grows past its first tables", () => {
  const tokens = Array.from({ length: 200_000 }, (_, id) => `token ${id * 7919}`);
  const ids = Object.fromEntries(tokens.map((token, id) => [token, id]));
  const vocabulary = vocabularyOf(ids);
  expect(tokens.every((token, id) => vocabulary.get(token) === id && vocabulary.tokenOf(id) === token)).toBe(true);
  const merges = readMerges(cursorAt(JSON.stringify(tokens.map((token) => ["", token]))), vocabularyOf({ ...ids, "": 200_000 }));
  expect(merges.count).toBe(200_000);
  expect([0, 65_536, 199_999].map((id) => merges.find(200_000, id))).toEqual([0, 65_536, 199_999]);
  expect(merges.find(0, 0)).toBe(-1);
});

test("takes the last id of a token that stands twice", () => {
  const vocabulary = readVocabulary(cursorAt('{"a": 0, "b": 1, "a": 2, "b": 1}'));
  expect([vocabulary.get("a"), vocabulary.get("b")]).toEqual([2, 1]);
  expect([0, 1, 2].map(vocabulary.tokenOf)).toEqual([undefined, "b", "a"]);
});

test.each([
  ['{"a": -1}', 'the id of "a" is -1'],
  ['{"a": 1.5}', 'the id of "a" is 1.5'],
  ['{"é": "x"}', 'the id of "é" is "x"'],
  ['{"a": 16777216}', 'the id of "a" is 16777216, not a whole number from 0 to 16777215'],
])("refuses %s", (text, message) => {
  expect(() => readVocabulary(cursorAt(text))).toThrow(message);
});

test("reads merges as lists and as texts", () => {
  const vocabulary = vocabularyOf({ a: 0, b: 1, ab: 2, " ": 3, " a": 4 });
  const merges = readMerges(cursorAt('[["a", "b"], "a b", "  a", [" ", "a"]]'), vocabulary);
  expect([...merges.joined.subarray(0, merges.count)]).toEqual([2, 2, 4, 4]);
  expect([...merges.lefts.subarray(0, merges.count)]).toEqual([0, 0, 3, 3]);
  expect(merges.find(0, 1)).toBe(1);
});

test.each([
  ['["a b"]', 'merge 0 ("a" "b") uses a token that is not in the vocabulary'],
  ['[["a", "a"], ["a"]]', "merge 1 is not a pair of tokens"],
  ['["a"]', "merge 0 is not a pair of tokens"],
  ["[7]", "unexpected byte 55 at 1"],
  ['[["a", "a"]', "unexpected end"],
])("refuses the merges %s", (text, message) => {
  expect(() => readMerges(cursorAt(text), vocabularyOf({ a: 0, aa: 1 }))).toThrow(message);
});
