import { describe, expect, test } from "vitest";
import { fillNormalBfloat16, permute } from "./random.js";

describe("permute", () => {
  test.each([1, 2, 3, 7, 64, 1000])("visits each of %i places once", (count) => {
    const seen = new Set(Array.from({ length: count }, (_, i) => permute(5, 0, i, count)));
    expect(seen.size).toBe(count);
    expect(Math.max(...seen)).toBe(count - 1);
  });

  test("differs between seeds and between epochs", () => {
    const order = (seed: number, epoch: number) => Array.from({ length: 100 }, (_, i) => permute(seed, epoch, i, 100)).join();
    expect(new Set([order(1, 0), order(1, 1), order(2, 0), order(2 ** 32 + 1, 0)]).size).toBe(4);
    expect(order(1, 0)).toBe(order(1, 0));
  });
});

describe("fillNormalBfloat16", () => {
  const floatsOf = (bits: Uint16Array) => new Float32Array(Uint32Array.from(bits, (word) => word << 16).buffer);

  test("has the mean, deviation and tails of a normal distribution", () => {
    const bits = new Uint16Array(200_000);
    fillNormalBfloat16(bits, 2, 1, 3);
    const values = floatsOf(bits);
    const mean = values.reduce((sum, x) => sum + x, 0) / values.length;
    const deviation = Math.sqrt(values.reduce((sum, x) => sum + (x - mean) ** 2, 0) / values.length);
    expect(Math.abs(mean)).toBeLessThan(0.02);
    expect(Math.abs(deviation - 2)).toBeLessThan(0.02);
    expect(values.filter((x) => Math.abs(x) > 4).length / values.length).toBeCloseTo(0.0455, 2);
  });

  test("makes any part of the sequence alone", () => {
    const whole = new Uint16Array(100);
    fillNormalBfloat16(whole, 1, 9, 4);
    for (const [start, end] of [
      [0, 3],
      [8, 30],
      [64, 100],
    ] as const) {
      const part = new Uint16Array(end - start);
      fillNormalBfloat16(part, 1, 9, 4, start);
      expect(part).toEqual(whole.slice(start, end));
    }
  });
});
