import { describe, expect, test } from "vitest";
import { checkCase, checkGradientCase } from "../operation_cases.js";
import { runGraph, testIntegers, testTensor } from "../testing.js";
import { gatherRows } from "./gather_rows.js";
import { scatterRows } from "./scatter_rows.js";

describe("gather_rows", () => {
  for (const [T, D, rows] of [
    [4, 3, [3, 1, 1, 0, 3]],
    [2, 1, []],
    [300, 65, Array.from({ length: 300 }, (_, i) => (i * 7) % 300)],
  ] as const) {
    test(`takes ${rows.length} of ${T} rows of ${D}`, async () => {
      const x = testTensor([T, D], 1);
      const expected = rows.flatMap((row) => Array.from({ length: D }, (_, i) => x.data[row * D + i]!));
      await checkCase({
        inputs: { x, rows: testIntegers(...rows) },
        build: ({ x, rows }) => ({ y: gatherRows(x!, rows!) }),
        expected: { y: expected },
      });
    });
  }
  test("has the gradient by finite differences, also of repeated and unused rows", async () => {
    await checkGradientCase(({ x, rows }) => [gatherRows(x!, rows!)], { x: testTensor([4, 3], 1), rows: testIntegers(3, 1, 3) });
  });
  test("fails on a row that is not there", async () => {
    const run = runGraph(({ x, rows }) => ({ y: gatherRows(x!, rows!) }), { x: testTensor([4, 2], 1), rows: testIntegers(0, 4) });
    await expect(run).rejects.toThrow("[gather_rows] expected rows from 0 to 3, received 4 at index 1");
  });
});

describe("scatter_rows", () => {
  test("adds rows of one number in their order and leaves zeros elsewhere", async () => {
    await checkCase({
      inputs: { dy: { shape: [3, 2], data: [1, 2, 3, 4, 5, 6] }, rows: testIntegers(2, 0, 2), like: testTensor([4, 2], 1) },
      build: ({ dy, rows, like }) => ({ y: scatterRows(dy!, rows!, like!) }),
      expected: { y: [3, 4, 0, 0, 6, 8, 0, 0] },
    });
  });
  test("has the gradient by finite differences", async () => {
    await checkGradientCase(({ dy, rows, like }) => [scatterRows(dy!, rows!, like!)], {
      dy: testTensor([3, 2], 1),
      rows: testIntegers(2, 0, 2),
      like: testTensor([4, 2], 2),
    });
  });
});
