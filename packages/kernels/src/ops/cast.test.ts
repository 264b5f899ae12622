import { describe, expect, test } from "vitest";
import { checkGradientCase, instructionSets, throughBfloat16 } from "../operation_cases.js";
import { runGraph, testNumbers, testTensor, toArray } from "../testing.js";
import { cast } from "./cast.js";

describe("cast", () => {
  test("rounds to bfloat16 to nearest, ties to even, and back without change", async () => {
    const data = [...testNumbers(20000, 1), 1 + 2 ** -8, 1 + 3 * 2 ** -8, 3.4e38, -0, Number.POSITIVE_INFINITY];
    for (const isa of await instructionSets()) {
      const { half, back, wide } = await runGraph(
        ({ x }) => ({ half: cast(x!, "bfloat16"), back: cast(cast(x!, "bfloat16"), "float32"), wide: cast(x!, "float64") }),
        { x: { shape: [data.length], data } },
        { isa, threads: 3 },
      );
      expect(half).toEqual(toArray("bfloat16", data));
      expect(back).toEqual(throughBfloat16(data));
      expect(wide).toEqual(Float64Array.from(Float32Array.from(data)));
    }
  });
  test("keeps NaN", async () => {
    const { y } = await runGraph(({ x }) => ({ y: cast(cast(x!, "bfloat16"), "float32") }), { x: { shape: [1], data: [Number.NaN] } });
    expect(y![0]).toBeNaN();
  });
  test("has the gradient by finite differences", async () => {
    await checkGradientCase(({ x }) => [cast(x!, "float64")], { x: testTensor([5], 1) });
  });
});
