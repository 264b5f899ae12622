import { expect, test } from "vitest";
import { type AddedToken, createAddedTokenSplitter } from "./added_tokens.js";

function split(text: string, ...tokens: readonly Partial<AddedToken>[]): (string | number)[] {
  const parts: (string | number)[] = [];
  const complete = tokens.map((token, id) => ({
    id,
    content: "",
    special: false,
    normalized: false,
    lstrip: false,
    rstrip: false,
    singleWord: false,
    ...token,
  }));
  const add = (part: string | number) => void parts.push(part);
  createAddedTokenSplitter(complete)(text, add, add);
  return parts;
}

test("finds the leftmost token, the longest of those that start there", () => {
  expect(split("a\n\n\nb\n", { content: "\n" }, { content: "\n\n" })).toEqual(["a", 1, 0, "b", 0]);
  expect(split("<a<ab>", { content: "<ab>" }, { content: "<a" })).toEqual([1, 0]);
});

test("leaves a text without tokens whole", () => {
  expect(split("plain", { content: "<x>" })).toEqual(["plain"]);
  expect(split("")).toEqual([]);
});

test("takes neighbouring white space along where the token says so", () => {
  expect(split("a  <x>  b", { content: "<x>", lstrip: true, rstrip: true })).toEqual(["a", 0, "b"]);
  expect(split("a  <x>  b", { content: "<x>" })).toEqual(["a  ", 0, "  b"]);
});

test("respects tokens that must stand alone", () => {
  expect(split("cat concat cat.", { content: "cat", singleWord: true })).toEqual([0, " concat ", 0, "."]);
});
