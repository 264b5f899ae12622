import { describe, test } from "vitest";
import { checkCase, checkGradientCase, throughBfloat16 } from "../operation_cases.js";
import { testNumbers, testTensor } from "../testing.js";
import { rmsNorm } from "./rms_norm.js";

function reference(x: ArrayLike<number>, weight: ArrayLike<number>, eps: number): number[] {
  const D = weight.length;
  return Array.from(x, (value, i) => {
    const row = Math.floor(i / D) * D;
    let squares = 0;
    for (let j = 0; j < D; j++) squares += x[row + j]! ** 2;
    return (value * weight[i - row]!) / Math.sqrt(squares / D + eps);
  });
}

describe("rms_norm", () => {
  for (const [T, D] of [
    [0, 8],
    [1, 1],
    [1, 512],
    [3, 17],
    [5, 33],
    [70, 300],
  ] as const) {
    test(`divides ${T} rows of ${D} by their root mean square`, async () => {
      const [x, weight] = [testTensor([T, D], 1), testTensor([D], 2)];
      await checkCase({
        inputs: { x, weight },
        build: ({ x, weight }) => ({ y: rmsNorm(x!, weight!, { eps: 1e-5 }) }),
        expected: { y: reference(x.data, weight.data, 1e-5) },
      });
    });
  }
  test("reads a bfloat16 weight", async () => {
    const [x, weight] = [testTensor([3, 19], 1), testNumbers(19, 2)];
    await checkCase({
      inputs: { x, weight: { shape: [19], data: weight, dtype: "bfloat16" } },
      build: ({ x, weight }) => ({ y: rmsNorm(x!, weight!) }),
      expected: { y: reference(x.data, throughBfloat16(weight), 1e-5) },
    });
  });
  test("keeps rows of very large and of zero values finite", async () => {
    const x = [3e18, -3e18, 0, 0];
    await checkCase({
      inputs: { x: { shape: [2, 2], data: x }, weight: { shape: [2], data: [1, 2] } },
      build: ({ x, weight }) => ({ y: rmsNorm(x!, weight!) }),
      expected: { y: [1, -2, 0, 0] },
    });
  });
  for (const [T, D] of [
    [1, 5],
    [5, 7],
    [40, 3],
  ] as const) {
    test(`has the gradient of ${T} rows of ${D} by finite differences`, async () => {
      await checkGradientCase(({ x, weight }) => [rmsNorm(x!, weight!, { eps: 0.01 })], {
        x: testTensor([T, D], 3),
        weight: testTensor([D], 4),
      });
    });
  }
});
