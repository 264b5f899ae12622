import { expect, it } from "vitest";
import { longestWindow, textWindows } from "./windows.js";

/** A token a character. */
const characters = { bosTokenId: 2, encode: (text: string) => [...text].map((each) => each.charCodeAt(0)) };

it("begins every window with the token for the beginning of a text, and leaves out a last one that is nothing else", () => {
  const [a, b, c] = [97, 98, 99];
  expect(textWindows(characters, "abc", { context: 3 }).map((window) => [...window])).toEqual([
    [2, a, b],
    [2, c],
  ]);
  const without = { ...characters, bosTokenId: null };
  expect(textWindows(without, "abc", { context: 2 }).map((window) => [...window])).toEqual([[a, b]]);
  expect(textWindows(characters, "abc", { context: 2, maxTokens: 1 }).map((window) => [...window])).toEqual([[2, a]]);
});

it("takes a context longer than a call has room for arguments, and as many windows", () => {
  const text = "a".repeat(300_000);
  expect(textWindows(characters, text, { context: 1_000_000 }).map(({ length }) => length)).toEqual([300_001]);
  expect(longestWindow(textWindows(characters, text, { context: 2 }))).toBe(2);
});

it.each([
  [{ context: 1 }, "context must be a whole number ≥ 2, received 1"],
  [{ context: 2.5 }, "context must be a whole number ≥ 2, received 2.5"],
  [{ context: Number.NaN }, "context must be a whole number ≥ 2, received NaN"],
  [{ maxTokens: 0 }, "maxTokens must be a whole number ≥ 1, received 0"],
])("refuses %o", (options, message) => {
  expect(() => textWindows(characters, "abc", options)).toThrow(expect.objectContaining({ code: "INVALID_ARGUMENT", message }));
});
