import { describe, test } from "vitest";
import { checkCase, checkGradientCase } from "../operation_cases.js";
import { testTensor } from "../testing.js";
import { gelu } from "./gelu.js";

/** erf by its series, exact in double precision up to 3 in size; beyond that by its continued fraction. */
function erf(x: number): number {
  if (Math.abs(x) > 3) {
    let fraction = 0;
    for (let k = 60; k > 0; k--) fraction = k / 2 / (Math.abs(x) + fraction);
    return Math.sign(x) * (1 - Math.exp(-x * x) / Math.sqrt(Math.PI) / (Math.abs(x) + fraction));
  }
  let term = x;
  let total = x;
  for (let n = 1; n < 100; n++) {
    term *= (-x * x) / n;
    total += term / (2 * n + 1);
  }
  return (2 / Math.sqrt(Math.PI)) * total;
}

const reference = (x: number) => (x === Number.NEGATIVE_INFINITY ? Number.NaN : 0.5 * x * (1 + erf(x / Math.SQRT2)));

describe("gelu", () => {
  test("is x · Φ(x) within rounding over its whole range", async () => {
    const data = Float32Array.from({ length: 2001 }, (_, i) => (i - 1000) / 125);
    await checkCase({
      inputs: { x: { shape: [data.length], data } },
      build: ({ x }) => ({ y: gelu(x!) }),
      expected: { y: Array.from(data, reference) },
      tolerance: 5e-7,
    });
  });
  test("gives x far to the right, 0 far to the left, and hands NaN on", async () => {
    await checkCase({
      inputs: { x: { shape: [5], data: [40, -40, 1e30, Number.NaN, 0] } },
      build: ({ x }) => ({ y: gelu(x!) }),
      expected: { y: [40, 0, Math.fround(1e30), Number.NaN, 0] },
      float64: false,
    });
  });
  for (const shape of [
    [3, 5],
    [1, 16],
    [2, 17],
  ]) {
    test(`has the gradient of a tensor [${shape}] by finite differences`, async () => {
      await checkGradientCase(({ x }) => [gelu(x!)], { x: testTensor(shape, 1, 3) });
    });
  }
  test("computes its gradient in float32 to rounding", async () => {
    const data = Float32Array.from({ length: 333 }, (_, i) => (i - 166) / 25);
    const { vectorJacobian } = await import("../differentiate.js");
    await checkCase({
      inputs: { x: { shape: [333], data }, dy: { shape: [333], data: data.map((x) => 1 + x / 10) } },
      build: ({ x, dy }) => ({ dx: vectorJacobian([gelu(x!)], [dy!], [x!])[0]! }),
      expected: {
        dx: Array.from(
          data,
          (x) => Math.fround(1 + x / 10) * (0.5 * (1 + erf(x / Math.SQRT2)) + (x * Math.exp((-x * x) / 2)) / Math.sqrt(2 * Math.PI)),
        ),
      },
      float64: false,
    });
  });
});
