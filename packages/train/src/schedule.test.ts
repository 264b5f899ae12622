import { expect, test } from "vitest";
import { learningRateAt } from "./schedule.js";

const schedule = { peak: 1e-3, warmup: 10, final: 0.1 };
const at = (step: number, steps = 110) => learningRateAt(schedule, step, step / steps, 10 / steps);

test("warms up linearly and reaches the peak at the last step of the warm-up", () => {
  expect(at(1)).toBeCloseTo(1e-4, 12);
  expect(at(5)).toBeCloseTo(5e-4, 12);
  expect(at(10)).toBe(1e-3);
});

test("follows half a cosine to the final fraction", () => {
  expect(at(60)).toBeCloseTo(1e-3 * 0.55, 12);
  expect(at(110)).toBeCloseTo(1e-4, 12);
  expect(at(11)).toBeLessThan(1e-3);
});

test("stays at the final fraction past the end and when there is only warm-up", () => {
  expect(at(500)).toBeCloseTo(1e-4, 12);
  expect(learningRateAt(schedule, 11, 1, 1)).toBeCloseTo(1e-4, 12);
});

test("starts at the peak without a warm-up", () => {
  expect(learningRateAt({ peak: 1, warmup: 0, final: 0 }, 1, 0, 0)).toBe(1);
});
