import { expect, test } from "vitest";
import { uniform } from "./random.js";

test("is a function of seed, stream and index, and differs between them", () => {
  expect(uniform(7, 0, 3)).toBe(uniform(7, 0, 3));
  const draws = [uniform(7, 0, 3), uniform(8, 0, 3), uniform(7, 1, 3), uniform(7, 0, 4), uniform(-7, 0, 3), uniform(2 ** 40 + 7, 0, 3)];
  expect(new Set(draws).size).toBe(draws.length);
});

test("is even over [0, 1)", () => {
  const n = 4000;
  const draws = Array.from({ length: n }, (_, i) => uniform(42, 0, i));
  const mean = draws.reduce((sum, u) => sum + u, 0) / n;
  expect(Math.abs(mean - 0.5)).toBeLessThan(4 * Math.sqrt(1 / 12 / n));
  expect(Math.min(...draws)).toBeGreaterThanOrEqual(0);
  expect(Math.max(...draws)).toBeLessThan(1);
});
