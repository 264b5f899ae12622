import { describe, expect, test } from "vitest";
import { permute } from "./random.js";

describe("permute", () => {
  test.each([1, 2, 3, 7, 64, 1000])("visits each of %i places once", (count) => {
    const seen = new Set(Array.from({ length: count }, (_, i) => permute(5, 0, i, count)));
    expect(seen.size).toBe(count);
    expect(Math.max(...seen)).toBe(count - 1);
  });

  test("differs between seeds and between epochs", () => {
    const order = (seed: number, epoch: number) => Array.from({ length: 100 }, (_, i) => permute(seed, epoch, i, 100)).join();
    expect(new Set([order(1, 0), order(1, 1), order(2, 0), order(2 ** 32 + 1, 0)]).size).toBe(4);
    expect(order(1, 0)).toBe(order(1, 0));
  });
});
