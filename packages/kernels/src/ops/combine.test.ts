import { describe, expect, test } from "vitest";
import { checkCase, checkGradientCase } from "../operation_cases.js";
import { runGraph, testIntegers, testTensor } from "../testing.js";
import { combine } from "./combine.js";

const build: Parameters<typeof checkCase>[0]["build"] = ({ sorted, order, prob }) => ({ y: combine(sorted!, order!, prob!) });

describe("combine", () => {
  test("puts rows back and weighs them; a skipped token gets exactly 0", async () => {
    const inputs = {
      sorted: { shape: [3, 2], data: [1, 2, 3, 4, 0, 0] },
      order: testIntegers(2, 0, 1),
      prob: { shape: [3], data: [0.5, 0.75, 0.25] },
    };
    await checkCase({ inputs, build, expected: { y: [1.5, 2, 0, 0, 0.25, 0.5] } });
    const { y } = await runGraph(build, inputs);
    expect(Object.is(y![2], 0)).toBe(true);
  });
  test("handles many rows and none", async () => {
    const [T, D] = [200, 130];
    const order = Array.from({ length: T }, (_, i) => (i * 7 + 3) % T);
    const [sorted, prob] = [testTensor([T, D], 1), testTensor([T], 2)];
    const expected = new Array<number>(T * D);
    order.forEach((t, i) => {
      for (let c = 0; c < D; c++) expected[t * D + c] = prob.data[t]! * sorted.data[i * D + c]!;
    });
    await checkCase({ inputs: { sorted, order: testIntegers(...order), prob }, build, expected: { y: expected } });
    await checkCase({
      inputs: { sorted: testTensor([0, 3], 1), order: testIntegers(), prob: testTensor([0], 1) },
      build,
      expected: { y: [] },
    });
  });
  test("has the gradient by finite differences", async () => {
    await checkGradientCase(({ sorted, order, prob }) => [combine(sorted!, order!, prob!)], {
      sorted: testTensor([4, 3], 1),
      order: testIntegers(2, 0, 3, 1),
      prob: testTensor([4], 2),
    });
  });
  test.each([
    [[0, 2], "received 2 at index 1"],
    [[-1, 0], "received -1 at index 0"],
    [[1, 1], "received 1 at index 1"],
  ])("fails on the order %j, which is no permutation", async (order, message) => {
    const inputs = { sorted: testTensor([2, 2], 1), order: testIntegers(...order), prob: testTensor([2], 2) };
    await expect(runGraph(build, inputs)).rejects.toThrow(`[combine] expected order to be a permutation of 2 rows, ${message}`);
  });
});
