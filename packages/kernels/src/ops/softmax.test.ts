import { describe, test } from "vitest";
import { checkCase, checkGradientCase } from "../operation_cases.js";
import { testTensor } from "../testing.js";
import { softmax } from "./softmax.js";

function reference(x: ArrayLike<number>, C: number): number[] {
  return Array.from(x, (value, i) => {
    const row = Array.from({ length: C }, (_, c) => x[Math.floor(i / C) * C + c]!);
    const top = Math.max(...row);
    return Math.exp(value - top) / row.reduce((sum, v) => sum + Math.exp(v - top), 0);
  });
}

const infinity = Number.POSITIVE_INFINITY;

describe("softmax", () => {
  for (const [T, C] of [
    [0, 5],
    [1, 1],
    [3, 5],
    [4, 16],
    [9, 17],
    [65, 257],
  ] as const) {
    test(`normalises ${T} rows of ${C}`, async () => {
      const x = testTensor([T, C], 1, 5);
      await checkCase({ inputs: { x }, build: ({ x }) => ({ p: softmax(x!) }), expected: { p: reference(x.data, C) } });
    });
  }
  test("gives −inf exactly 0, ties equal shares, huge values no overflow", async () => {
    await checkCase({
      inputs: { x: { shape: [3, 4], data: [-infinity, 0, -infinity, 0, 2, 2, 2, 2, 3e38, -3e38, 3e38, 0] } },
      build: ({ x }) => ({ p: softmax(x!) }),
      expected: { p: [0, 0.5, 0, 0.5, 0.25, 0.25, 0.25, 0.25, 0.5, 0, 0.5, 0] },
    });
  });
  test("gives NaN for a row of nothing but −inf, and for no other row", async () => {
    await checkCase({
      inputs: { x: { shape: [2, 2], data: [-infinity, -infinity, 1, 1] } },
      build: ({ x }) => ({ p: softmax(x!) }),
      expected: { p: [Number.NaN, Number.NaN, 0.5, 0.5] },
    });
  });
  for (const [T, C] of [
    [1, 2],
    [3, 5],
    [2, 18],
  ] as const) {
    test(`has the gradient of ${T} rows of ${C} by finite differences`, async () => {
      await checkGradientCase(({ x }) => [softmax(x!)], { x: testTensor([T, C], 2, 2) });
    });
  }
});
