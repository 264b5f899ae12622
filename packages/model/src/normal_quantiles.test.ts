import { expect, it } from "vitest";
import { normalQuantiles } from "./normal_quantiles.js";

it("holds the quantiles of the normal distribution, in order, symmetric, with deviation 1", () => {
  const table = normalQuantiles();
  expect(table.length).toBe(65536);
  expect(table.every((x, i) => i === 0 || x > (table[i - 1] as number))).toBe(true);
  expect(table.every((x, i) => x === -(table[65535 - i] as number))).toBe(true);
  expect(table.reduce((sum, x) => sum + x * x, 0) / table.length).toBeCloseTo(1, 12);
  // Quantiles of 0.6, 0.8, 0.975, 0.999 from tables; an entry stands for a step of 1/65536 in probability.
  const at = (p: number) => table[Math.round(p * 65536 - 0.5)] as number;
  for (const [p, x] of [
    [0.6, 0.2533471],
    [0.8, 0.8416212],
    [0.975, 1.959964],
    [0.999, 3.0902323],
  ] as const) {
    expect(Math.abs(at(p) - x)).toBeLessThan(3e-3);
  }
  expect(table[65535]).toBeCloseTo(4.32, 2);
});
