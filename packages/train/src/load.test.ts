import { expect, test } from "vitest";
import { expertLoad } from "./load.js";

test("takes the busiest expert of the worst layer and the share of skips", () => {
  expect(
    expertLoad([
      [2, 2, 0],
      [3, 1, 0],
    ]),
  ).toEqual({ maxMeanExpertLoad: 1.5, skipFraction: 0 });
  expect(expertLoad([[1, 1, 2]])).toEqual({ maxMeanExpertLoad: 1, skipFraction: 0.5 });
});

test("has nothing to say about a dense model or a layer that skipped everything", () => {
  expect(expertLoad([])).toEqual({ maxMeanExpertLoad: null, skipFraction: null });
  expect(expertLoad([[0, 0, 5]])).toEqual({ maxMeanExpertLoad: 0, skipFraction: 1 });
});
