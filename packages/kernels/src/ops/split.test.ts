import { expect, test } from "vitest";
import { differentiate, vectorJacobian } from "../differentiate.js";
import type { Value } from "../graph.js";
import { checkCase, checkGradientCase } from "../operation_cases.js";
import { runGraph, testTensor } from "../testing.js";
import { add } from "./add.js";
import { cast } from "./cast.js";
import { fill } from "./fill.js";
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

test.each([
  ["left", [1, 0, 0]],
  ["right", [0, 1, 1]],
  ["both", [1, 1, 1]],
] as const)("has a float32 gradient of bfloat16 where casts of %s reach the loss", async (parts, row) => {
  const { dx } = await runGraph(
    ({ x }) => {
      const [left, right] = split(x!, { at: 1 }).map((part) => sum(cast(part, "float32"))) as [Value, Value];
      const loss = parts === "both" ? add(left, right) : parts === "left" ? left : right;
      return { dx: differentiate(loss, [x!])[0]! };
    },
    { x: { ...testTensor([2, 3], 1), dtype: "bfloat16" } },
  );
  expect(dx).toEqual(Float32Array.of(...row, ...row));
});

test("widens seeds of bfloat16 that both parts have", async () => {
  const { dx } = await runGraph(
    ({ x }) => {
      const parts = split(x!, { at: 1 });
      return { dx: vectorJacobian(parts, [fill(parts[0], 2), fill(parts[1], 3)], [x!])[0]! };
    },
    { x: { ...testTensor([1, 3], 1), dtype: "bfloat16" } },
  );
  expect(dx).toEqual(Float32Array.of(2, 3, 3));
});

test("refuses a column that is not there", async () => {
  await expect(runGraph(({ x }) => ({ left: split(x!, { at: 4 })[0] }), { x: testTensor([2, 3], 1) })).rejects.toThrow("[slice] columns");
});
