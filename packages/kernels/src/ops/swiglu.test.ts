import { describe, expect, test } from "vitest";
import { createGraph } from "../graph.js";
import { checkCase, checkGradientCase } from "../operation_cases.js";
import { testTensor } from "../testing.js";
import { tensor } from "../types.js";
import { swiglu } from "./swiglu.js";

function reference(x: ArrayLike<number>, T: number, F: number): number[] {
  return Array.from({ length: T * F }, (_, i) => {
    const [t, f] = [Math.floor(i / F), i % F];
    const [gate, up] = [x[t * 2 * F + f]!, x[t * 2 * F + F + f]!];
    return (gate / (1 + Math.exp(-gate))) * up;
  });
}

describe("swiglu", () => {
  for (const [T, F] of [
    [0, 4],
    [1, 1],
    [3, 7],
    [2, 16],
    [5, 40],
    [33, 257],
  ] as const) {
    test(`multiplies silu of the first ${F} columns by the last ${F} of ${T} rows`, async () => {
      const x = testTensor([T, 2 * F], 1, 4);
      await checkCase({ inputs: { x }, build: ({ x }) => ({ y: swiglu(x!) }), expected: { y: reference(x.data, T, F) } });
    });
  }
  test("is finite for gates far from 0", async () => {
    await checkCase({
      inputs: { x: { shape: [2, 2], data: [-200, 3, 200, 3] } },
      build: ({ x }) => ({ y: swiglu(x!) }),
      expected: { y: [0, 600] },
    });
  });
  for (const [T, F] of [
    [3, 5],
    [1, 16],
    [2, 17],
  ] as const) {
    test(`has the gradient of ${T} rows of ${F} by finite differences`, async () => {
      await checkGradientCase(({ x }) => [swiglu(x!)], { x: testTensor([T, 2 * F], 2, 3) });
    });
  }
  test("refuses an odd number of columns", () => {
    const graph = createGraph();
    expect(() => swiglu(graph.input("x", tensor("float32", [2, 3])))).toThrow("[swiglu] expected an even number of columns, received 3");
  });
});
