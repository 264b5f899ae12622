import { describe, expect, test } from "vitest";
import { createGraph } from "../graph.js";
import { checkCase } from "../operation_cases.js";
import { runGraph, testIntegers } from "../testing.js";
import { tensor } from "../types.js";
import { expertSort } from "./expert_sort.js";

const build =
  (numExperts: number): Parameters<typeof checkCase>[0]["build"] =>
  ({ index }) => ({ ...expertSort(index!, { numExperts }) });

describe("expert_sort", () => {
  for (const [name, numExperts, index, order, offsets, counts] of [
    ["sorts stably, skipped tokens last", 3, [2, 0, 3, 2, 0, 3], [1, 4, 0, 3, 2, 5], [0, 2, 2, 4, 6], [2, 0, 2, 2]],
    ["takes one expert for all", 2, [1, 1, 1], [0, 1, 2], [0, 0, 3, 3], [0, 3, 0]],
    ["takes only skipped tokens", 2, [2, 2], [0, 1], [0, 0, 0, 2], [0, 0, 2]],
    ["takes no token", 2, [], [], [0, 0, 0, 0], [0, 0, 0]],
  ] as const) {
    test(name, async () => {
      await checkCase({ inputs: { index: testIntegers(...index) }, build: build(numExperts), expected: { order, offsets, counts } });
    });
  }
  test("counts in float64 where the model does", async () => {
    const { counts } = await runGraph(({ index }) => ({ ...expertSort(index!, { numExperts: 1, dtype: "float64" }) }), {
      index: testIntegers(0, 1, 0),
    });
    expect(counts).toEqual(Float64Array.of(2, 1));
  });
  test("counts in nothing else", () => {
    const index = createGraph().input("index", tensor("int32", [2]));
    expect(() => expertSort(index, { numExperts: 1, dtype: "bfloat16" as "float32" })).toThrow(
      expect.objectContaining({ code: "INVALID_ARGUMENT", message: "[expert_sort] counts in float32 or float64, received bfloat16" }),
    );
  });
  test("fails on an expert that is not there", async () => {
    for (const expert of [-1, 3]) {
      await expect(runGraph(build(2), { index: testIntegers(0, expert) })).rejects.toThrow(
        `[expert_sort] expected an expert from 0 to 2, received ${expert} at token 1`,
      );
    }
  });
});
