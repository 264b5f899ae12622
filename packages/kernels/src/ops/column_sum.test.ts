import { describe, test } from "vitest";
import { checkCase } from "../operation_cases.js";
import { testTensor } from "../testing.js";
import { columnSum } from "./column_sum.js";

describe("column_sum", () => {
  for (const [T, N] of [
    [0, 5],
    [1, 1],
    [3, 33],
    [17, 600],
    [1100, 7],
  ] as const) {
    test(`adds ${T} rows of ${N}`, async () => {
      const x = testTensor([T, N], 1);
      const sums = Array.from({ length: N }, (_, n) => Array.from({ length: T }, (_, t) => x.data[t * N + n]!).reduce((a, b) => a + b, 0));
      await checkCase({ inputs: { x }, build: ({ x }) => ({ y: columnSum(x!) }), expected: { y: sums }, tolerance: 1e-5 });
    });
  }
});
