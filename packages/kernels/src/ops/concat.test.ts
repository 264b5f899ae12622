import { describe, expect, test } from "vitest";
import { differentiate } from "../differentiate.js";
import { createGraph } from "../graph.js";
import { checkCase, checkGradientCase, throughBfloat16 } from "../operation_cases.js";
import { runGraph, testTensor } from "../testing.js";
import { tensor } from "../types.js";
import { cast } from "./cast.js";
import { concat } from "./concat.js";
import { multiply } from "./multiply.js";
import { slice } from "./slice.js";

describe("concat and slice", () => {
  for (const [T, A, B] of [
    [0, 2, 3],
    [1, 1, 1],
    [3, 2, 5],
    [100, 130, 70],
  ] as const) {
    test(`put ${T} rows of ${A} and ${B} side by side and take them apart`, async () => {
      const [a, b] = [testTensor([T, A], 1), testTensor([T, B], 2)];
      const rows = (data: ArrayLike<number>, n: number, t: number) => Array.from({ length: n }, (_, i) => data[t * n + i]!);
      await checkCase({
        inputs: { a, b },
        build: ({ a, b }) => {
          const y = concat(a!, b!);
          return {
            y,
            left: slice(y, { begin: 0, end: A }),
            right: slice(y, { begin: A, end: A + B }),
            none: slice(y, { begin: A, end: A }),
          };
        },
        expected: {
          y: Array.from({ length: T }, (_, t) => [...rows(a.data, A, t), ...rows(b.data, B, t)]).flat(),
          left: a.data,
          right: b.data,
          none: [],
        },
      });
    });
  }
  test("have the gradient by finite differences", async () => {
    await checkGradientCase(({ a, b }) => [concat(a!, b!), slice(a!, { begin: 1, end: 3 })], {
      a: testTensor([2, 4], 1),
      b: testTensor([2, 3], 2),
    });
  });
  test("have float32 gradients of bfloat16, as casts give them", async () => {
    const x = { ...testTensor([2, 3], 1), dtype: "bfloat16" } as const;
    const { dx } = await runGraph(
      ({ x }) => {
        const part = cast(slice(x!, { begin: 1, end: 3 }), "float32");
        return { dx: differentiate(multiply(part, part), [x!])[0]! };
      },
      { x },
    );
    const doubled = throughBfloat16(x.data).map((value) => 2 * value);
    expect(dx).toEqual(Float32Array.of(0, ...doubled.slice(1, 3), 0, ...doubled.slice(4)));
  });
  test("refuse columns that are not there", () => {
    const graph = createGraph();
    expect(() => slice(graph.input("x", tensor("float32", [2, 3])), { begin: 1, end: 4 })).toThrow(
      "[slice] columns 1 to 4 do not fit 3 columns",
    );
    for (const [begin, end] of [
      [0.5, 2],
      [0, 1.5],
      [Number.NaN, 2],
    ] as const)
      expect(() => slice(graph.input("x", tensor("float32", [2, 3])), { begin, end })).toThrow(
        expect.objectContaining({
          code: "INVALID_ARGUMENT",
          message: `[slice] expected whole numbers of columns, received ${begin} to ${end}`,
        }),
      );
  });
});
