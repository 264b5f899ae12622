import { describe, expect, test } from "vitest";
import { checkGradientCase, instructionSets, sameBits } from "../operation_cases.js";
import { runGraph, testTensor } from "../testing.js";
import { type MergeVectors, residualMerge } from "./residual_merge.js";
import { residualRmsNorm } from "./residual_rms_norm.js";
import { rmsNorm } from "./rms_norm.js";

const tensors = (T: number, D: number) => ({
  y: testTensor([T, D], 1),
  h: testTensor([T, D], 2),
  weight: testTensor([D], 7),
  yScale: testTensor([D], 3),
  yBias: testTensor([D], 4),
  hScale: testTensor([D], 5),
  hBias: testTensor([D], 6),
});

describe("residual_rms_norm", () => {
  for (const [T, D] of [
    [0, 4],
    [1, 64],
    [5, 33],
    [90, 130],
  ] as const) {
    test(`gives the bits of merge and norm one after the other for ${T} rows of ${D}`, async () => {
      for (const isa of await instructionSets()) {
        const outputs = await runGraph(
          ({ y, h, weight, ...rest }) => {
            const vectors = rest as MergeVectors;
            const fused = residualRmsNorm(y!, h!, weight!, { ...vectors, eps: 1e-5 });
            const merged = residualMerge(y!, h!, vectors);
            return { fusedH: fused.h, fusedNormed: fused.normed, h: merged, normed: rmsNorm(merged, weight!, { eps: 1e-5 }) };
          },
          tensors(T, D),
          { isa, threads: 3 },
        );
        expect(sameBits(outputs.fusedH, outputs.h)).toBe(true);
        expect(sameBits(outputs.fusedNormed, outputs.normed)).toBe(true);
      }
    });
  }
  test("has the gradient of both results by finite differences", async () => {
    await checkGradientCase(
      ({ y, h, weight, ...rest }) => {
        const fused = residualRmsNorm(y!, h!, weight!, { ...(rest as MergeVectors), eps: 0.01 });
        return [fused.h, fused.normed];
      },
      tensors(5, 7),
    );
  });
  test("has the gradient when only one of the results is used, and without a residual", async () => {
    const { y, weight, yScale, yBias } = tensors(3, 5);
    for (const used of ["h", "normed"] as const) {
      const names = used === "h" ? ["y", "yScale", "yBias"] : ["y", "yScale", "yBias", "weight"];
      await checkGradientCase(
        (v) => [residualRmsNorm(v.y!, null, v.weight!, { yScale: v.yScale!, yBias: v.yBias!, eps: 0.01 })[used]],
        { y, weight, yScale, yBias },
        { names },
      );
    }
  });
});
