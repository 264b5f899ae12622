import { describe, expect, test } from "vitest";
import { checkCase, checkGradientCase } from "../operation_cases.js";
import { runGraph, testIntegers, testTensor } from "../testing.js";
import { valueDelay } from "./value_delay.js";

const build: Parameters<typeof checkCase>[0]["build"] = ({ current, delayed, cu, state, slots, cached }) => ({
  out: valueDelay(current!, delayed!, cu!, state ? { state, slots: slots!, cached: cached! } : {}),
});

describe("value_delay", () => {
  test("puts the previous token's values beside each token's, zeros at the start of a document", async () => {
    await checkCase({
      inputs: {
        current: { shape: [4, 2], data: [1, 2, 3, 4, 5, 6, 7, 8] },
        delayed: { shape: [4, 2], data: [10, 20, 30, 40, 50, 60, 70, 80] },
        cu: testIntegers(0, 3, 3, 4),
      },
      build,
      expected: { out: [1, 2, 0, 0, 3, 4, 10, 20, 5, 6, 30, 40, 7, 8, 0, 0] },
    });
  });
  test("takes the row of its slot where something is cached", async () => {
    await checkCase({
      inputs: {
        current: { shape: [3, 1], data: [1, 2, 3] },
        delayed: { shape: [3, 1], data: [10, 20, 30] },
        cu: testIntegers(0, 2, 3),
        state: { shape: [3, 1, 1], data: [7, 8, 9] },
        slots: testIntegers(2, 0),
        cached: testIntegers(5, 0),
      },
      build,
      expected: { out: [1, 9, 2, 10, 3, 0] },
    });
  });
  test("handles no token, and rows that belong to no sequence", async () => {
    const empty = { current: testTensor([0, 3], 1), delayed: testTensor([0, 3], 2), cu: testIntegers(0) };
    await checkCase({ inputs: empty, build, expected: { out: [] } });
    const rest = { current: { shape: [2, 1], data: [1, 2] }, delayed: { shape: [2, 1], data: [3, 4] }, cu: testIntegers(0, 1) };
    await checkCase({ inputs: rest, build, expected: { out: [1, 0, 2, 0] } });
  });
  test("has the gradient by finite differences", async () => {
    await checkGradientCase(({ current, delayed, cu }) => [valueDelay(current!, delayed!, cu!)], {
      current: testTensor([6, 3], 1),
      delayed: testTensor([6, 3], 2),
      cu: testIntegers(0, 1, 1, 4, 6),
    });
  });
  test("fails on a negative count of cached tokens", async () => {
    const inputs = {
      current: testTensor([1, 1], 1),
      delayed: testTensor([1, 1], 2),
      cu: testIntegers(0, 1),
      state: testTensor([1, 1, 1], 3),
      slots: testIntegers(0),
      cached: testIntegers(-1),
    };
    await expect(runGraph(build, inputs)).rejects.toThrow("expected cached not to be negative, received -1");
  });
});
