import { expect, test } from "vitest";
import { mean, median, standardDeviation } from "./statistics.js";

test("mean, sample standard deviation and median of known numbers", () => {
  const numbers = [9, 2, 4, 4, 4, 5, 5, 7];
  expect(mean(numbers)).toBe(5);
  expect(standardDeviation(numbers)).toBeCloseTo(Math.sqrt(32 / 7), 12);
  expect(median(numbers)).toBe(4.5);
  expect(median([3, 1, 2])).toBe(2);
});

test("one number has no deviation, and none has no mean", () => {
  expect(standardDeviation([3])).toBe(0);
  expect(mean([])).toBeNaN();
  expect(median([])).toBeNaN();
});
