import { describe as accountOf, presets } from "@zaya/model";
import { expect, test } from "vitest";
import { decodeStepBytes, piecesOf, prefillFlops } from "./work.js";

const config = presets["zaya1-8b"];

test("one sequence reads what a decoded token reads", () => {
  const description = accountOf(config, { context: 1000 });
  expect(decodeStepBytes(description, 1, 1).total).toBe(description.decodeBytes.total);
});

test("more sequences read more experts, keys and values, and everything else once", () => {
  const description = accountOf(config, { context: 1000 });
  const one = decodeStepBytes(description, 1, 1);
  const eight = decodeStepBytes(description, 8, 6.45);
  expect(eight.experts).toBeCloseTo(6.45 * one.experts, 0);
  expect(eight.keysAndValues).toBe(8 * one.keysAndValues);
  expect([eight.head, eight.attention, eight.router]).toEqual([one.head, one.attention, one.router]);
});

test("a prompt in two parts is the same work as the whole, but for the head of the first part", () => {
  const { head, blocks } = accountOf(config).flops.prefill;
  const whole = prefillFlops(config, 0, 512);
  expect(prefillFlops(config, 0, 200) + prefillFlops(config, 200, 312) - head).toBeCloseTo(whole, -3);
  // 40 layers, 8 heads of 128: 4 · 8 · 128 · 512² / 2 each
  expect(whole).toBeCloseTo(512 * blocks + head + 40 * 4 * 8 * 128 * (512 ** 2 / 2), -3);
});

test("the pieces of a step are its bytes, three a layer and the head", () => {
  const bytes = decodeStepBytes(accountOf(config, { context: 1000 }), 1, 1);
  const pieces = piecesOf(bytes, config.numLayers);
  expect(pieces).toHaveLength(3 * 40 + 1);
  expect(pieces.reduce((sum, size) => sum + size, 0)).toBeCloseTo(bytes.total, 3);
  expect(pieces.at(-1)).toBe(bytes.head + bytes.other);
  expect(piecesOf({ ...bytes, router: 0 }, config.numLayers)).toHaveLength(2 * 40 + 1); // a dense model has no router
});
