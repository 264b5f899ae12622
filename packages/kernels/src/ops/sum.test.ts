import { describe, test } from "vitest";
import { checkCase, checkGradientCase } from "../operation_cases.js";
import { testTensor } from "../testing.js";
import { sum } from "./sum.js";
import { sumOfSquares } from "./sum_of_squares.js";

describe("sum and sum_of_squares", () => {
  for (const shape of [[0], [1], [3, 5], [70000]]) {
    test(`add up a tensor [${shape}]`, async () => {
      const x = testTensor(shape, 1);
      const total = Array.from(x.data).reduce((a, b) => a + b, 0);
      const squares = Array.from(x.data).reduce((a, b) => a + b * b, 0);
      await checkCase({
        inputs: { x },
        build: ({ x }) => ({ total: sum(x!), squares: sumOfSquares(x!) }),
        expected: { total: [total], squares: [squares] },
        tolerance: 1e-5,
      });
    });
  }
  test("have the gradient by finite differences", async () => {
    await checkGradientCase(({ x }) => [sum(x!), sumOfSquares(x!)], { x: testTensor([3, 5], 1) });
  });
});
