import { describe, test } from "vitest";
import { checkCase } from "../operation_cases.js";
import { clipScale } from "./clip_scale.js";

describe("clip_scale", () => {
  for (const [name, sumOfSquares, divisor, maxNorm, expected] of [
    ["divides where the norm is small", 4, 4, 1, 0.25],
    ["limits the norm after the division", 64, 2, 1, 0.125],
    ["divides only, without a limit", 1e6, 4, 0, 0.25],
    ["takes a gradient of zeros", 0, 2, 1, 0.5],
    ["stops a gradient that overflowed", Number.POSITIVE_INFINITY, 2, 1, 0],
    ["shows a gradient that is not a number", Number.NaN, 1, 1, Number.NaN],
  ] as const) {
    test(name, async () => {
      await checkCase({
        inputs: { sum: { shape: [1], data: [sumOfSquares] }, divisor: { shape: [1], data: [divisor] } },
        build: ({ sum, divisor }) => ({ scale: clipScale(sum!, divisor!, { maxNorm }) }),
        expected: { scale: [expected] },
      });
    });
  }
});
