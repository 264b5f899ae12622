import { expect, test } from "vitest";
import { differentiate } from "../differentiate.js";
import { checkCase, checkGradientCase } from "../operation_cases.js";
import { runGraph, testTensor } from "../testing.js";
import { split } from "./split.js";
import { sum } from "./sum.js";

test.each([
  [3, 7, 2],
  [1, 1, 1],
  [2, 5, 0],
  [0, 4, 3],
  [40, 530, 17],
])("takes %i rows of %i columns apart at %i", async (T, C, at) => {
  const x = testTensor([T, C], 1);
  const columns = (begin: number, end: number) => Array.from(x.data).filter((_, i) => i % C >= begin && i % C < end);
  await checkCase({
    inputs: { x },
    build: ({ x }) => {
      const [left, right] = split(x!, { at });
      return { left, right };
    },
    expected: { left: columns(0, at).map(Math.fround), right: columns(at, C).map(Math.fround) },
    float64: false,
  });
});

test("has the gradient by finite differences", async () => {
  await checkGradientCase(({ x }) => split(x!, { at: 2 }), { x: testTensor([3, 5], 1) });
});

test("gives zeros to the part that does not reach the loss", async () => {
  const { dx } = await runGraph(({ x }) => ({ dx: differentiate(sum(split(x!, { at: 1 })[1]), [x!])[0]! }), { x: testTensor([2, 3], 1) });
  expect([...(dx ?? [])]).toEqual([0, 1, 1, 0, 1, 1]);
});

test("refuses a column that is not there", async () => {
  await expect(runGraph(({ x }) => ({ left: split(x!, { at: 4 })[0] }), { x: testTensor([2, 3], 1) })).rejects.toThrow("[slice] columns");
});
