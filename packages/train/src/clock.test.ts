import { expect, test } from "vitest";
import { createClock } from "./clock.js";

test("counts steps when the limit is in steps, and keeps nothing that depends on time", () => {
  const clock = createClock({ steps: 4, seconds: undefined, warmup: 1 });
  clock.add(2, 1);
  expect(clock.progress(2)).toBe(0.5);
  expect(clock.warmed()).toBe(0.25);
  expect(clock.secondsLeft(1)).toBe(6);
  expect(clock.isOver(3)).toBe(false);
  expect(clock.isOver(4)).toBe(true);
  expect(clock.state()).toEqual({});
});

test("counts training time when the limit is in seconds, over all parts of a run", () => {
  const clock = createClock({ steps: undefined, seconds: 10, warmup: 1 });
  clock.add(2, 1);
  clock.add(3, 2);
  const later = createClock({ steps: undefined, seconds: 10, warmup: 1 }, clock.state().clock);
  expect(later.progress(3)).toBe(0.5);
  expect(later.warmed()).toBe(0.2);
  expect(later.isOver(3)).toBe(false);
  later.add(5, 3);
  expect(later.isOver(3)).toBe(true);
});
