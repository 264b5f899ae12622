import { expect, test } from "vitest";
import { createAllocator } from "./pages.js";

test("hands out each number once and takes it back", () => {
  const pages = createAllocator(5);
  expect(pages.take(2)).toEqual([0, 1]);
  expect(pages.take(4)).toBeNull();
  expect(pages.free).toBe(3);
  expect(pages.take(3)).toEqual([2, 3, 4]);
  pages.give([1, 3]);
  expect(pages.take(2)?.sort()).toEqual([1, 3]);
});

test("refuses a number that is given back twice", () => {
  const pages = createAllocator(2);
  pages.take(1);
  pages.give([0]);
  expect(() => pages.give([0])).toThrow("not taken");
});
