import { expect, test } from "vitest";
import { expertUse } from "./routing.js";

test("counts distinct experts a layer and step, and the load of all steps together", () => {
  const steps = [
    [Int32Array.of(0, 0, 1), Int32Array.of(2, 2, 2)],
    [Int32Array.of(1, 2, 3), Int32Array.of(2, 2, 2)],
  ];
  const use = expertUse(steps, 4);
  expect(use.distinct).toBe((2 + 3 + 1 + 1) / 4);
  expect(use.distinctIfUniform).toBeCloseTo(4 * (1 - 0.75 ** 3), 12);
  expect(use.worstMaxMeanLoad).toBe(4);
  expect(use.maxMeanLoad).toBeCloseTo((2 / 1.5 + 4) / 2, 12);
});

test("eight tokens over 16 experts with equal chances use 6.45 of them", () => {
  expect(expertUse([[new Int32Array(8)]], 16).distinctIfUniform).toBeCloseTo(6.45, 2);
});

test("the skip class reads no expert", () => {
  expect(expertUse([[Int32Array.of(4, 4, 1)]], 4)).toMatchObject({ distinct: 1, distinctIfUniform: 1 });
});
