import { describe, expect, test } from "vitest";
import { createGraph } from "../graph.js";
import { checkCase, checkGradientCase } from "../operation_cases.js";
import { type TestTensor, testIntegers, testTensor } from "../testing.js";
import { tensor } from "../types.js";
import { rope } from "./rope.js";

/** Pair by pair; frequencies and angles are rounded to float32, sines are not. */
function reference(x: TestTensor, positions: readonly number[], rotary: number, theta: number): number[] {
  const [T, heads, H] = x.shape as [number, number, number];
  const half = rotary / 2;
  const y = Array.from(x.data);
  for (let t = 0; t < T; t++) {
    for (let j = 0; j < half; j++) {
      const frequency = Math.fround(1 / Math.fround(theta ** Math.fround((2 * j) / rotary)));
      const angle = Math.fround(positions[t]! * frequency);
      for (let i = 0; i < heads; i++) {
        const row = (t * heads + i) * H;
        const [a, b] = [x.data[row + j]!, x.data[row + j + half]!];
        y[row + j] = a * Math.cos(angle) - b * Math.sin(angle);
        y[row + j + half] = b * Math.cos(angle) + a * Math.sin(angle);
      }
    }
  }
  return y;
}

describe("rope", () => {
  for (const [heads, H, rotary, theta, positions] of [
    [1, 2, 2, 10000, [0, 1, 2, 3]],
    [4, 16, 8, 10000, [0, 1, 2, 0, 1, 100]],
    [3, 24, 24, 5e6, [5, 4, 3, 70000]],
    [2, 64, 32, 1e6, Array.from({ length: 40 }, (_, t) => t * 37)],
    [8, 128, 64, 5e6, [131071, 65536, 17]],
    [2, 7, 6, 500, [9, 1]],
    [2, 5, 0, 10000, [3]],
    [2, 4, 2, 10000, []],
  ] as const) {
    test(`turns ${rotary} of ${H} dimensions of ${heads} heads, ${positions.length} tokens, theta ${theta}`, async () => {
      const x = testTensor([positions.length, heads, H], 1);
      await checkCase({
        inputs: { x, positions: testIntegers(...positions) },
        build: ({ x, positions }) => ({ y: rope(x!, positions!, { rotary, theta }) }),
        expected: { y: reference(x, positions, rotary, theta) },
        // A frequency may round the other way than JavaScript's: one ulp of an angle of 1e5 is 4e-3 there, of 100 it is 4e-6.
        tolerance: Math.max(...positions) > 1000 ? 2e-2 : 2e-5,
        float64: false,
      });
    });
  }

  test("keeps sines and cosines within 1e-6 at large exact angles", async () => {
    const positions = [1, 1000, 131071, 1048575, -5];
    const x = { shape: [5, 1, 2], data: [1, 0, 1, 0, 1, 0, 1, 0, 1, 0] };
    await checkCase({
      inputs: { x, positions: testIntegers(...positions) },
      build: ({ x, positions }) => ({ y: rope(x!, positions!, { rotary: 2, theta: 10000 }) }),
      expected: { y: positions.flatMap((p) => [Math.cos(p), Math.sin(p)]) },
      tolerance: 1e-6,
      float64: false,
    });
  });

  test("has the gradient by finite differences", async () => {
    await checkGradientCase(({ x, positions }) => [rope(x!, positions!, { rotary: 6, theta: 100 })], {
      x: testTensor([5, 2, 9], 1),
      positions: testIntegers(0, 1, 2, 0, 50),
    });
  });

  test("refuses an odd or too large number of rotary dimensions and positions of another length", () => {
    const graph = createGraph();
    const x = graph.input("x", tensor("float32", [3, 2, 8]));
    const positions = graph.input("positions", tensor("int32", [3]));
    expect(() => rope(x, positions, { rotary: 3, theta: 10 })).toThrow(
      "[rope] expected an even number of rotary dimensions up to 8, received 3",
    );
    expect(() => rope(x, positions, { rotary: 10, theta: 10 })).toThrow("received 10");
    expect(() => rope(x, positions, { rotary: 4, theta: 0 })).toThrow("[rope] expected theta above 0, received 0");
    expect(() => rope(x, graph.input("two", tensor("int32", [2])), { rotary: 4, theta: 10 })).toThrow(
      "[rope] expected positions of shape [3], received [2]",
    );
  });
});
