import { describe, expect, test } from "vitest";
import { createGraph } from "../graph.js";
import { checkGradientCase, instructionSets, sameBits } from "../operation_cases.js";
import { runGraph, testTensor } from "../testing.js";
import { tensor } from "../types.js";
import { encode } from "./encode.js";
import { linear } from "./linear.js";
import { type MergeVectors, residualMerge } from "./residual_merge.js";
import { residualRmsNorm, residualRmsNormOperation } from "./residual_rms_norm.js";
import { rmsNorm } from "./rms_norm.js";

type RowsOfNorm = ReturnType<typeof residualRmsNorm>;

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
  for (const [T, D] of [
    [0, 40],
    [1, 300],
    [19, 257],
  ] as const) {
    test(`gives ${T} rows of ${D} as int8 with the bits of quantise after it`, async () => {
      const inputs = { ...tensors(T, D), w: testTensor([33, D], 8) };
      for (const isa of await instructionSets()) {
        for (const threads of [1, 2, 3, 7]) {
          const outputs = await runGraph(
            ({ y, h, weight, w, ...rest }) => {
              const vectors = rest as MergeVectors;
              const panels = encode(w!, "int8");
              const [float32, int8, both] = (["float32", "int8", "both"] as const).map((form) =>
                residualRmsNorm(y!, h!, weight!, { ...vectors, form }),
              ) as [RowsOfNorm, RowsOfNorm, RowsOfNorm];
              expect(float32.rows).toBe(float32.normed);
              const [, apart] = residualRmsNormOperation.decompose?.(int8.h.node.inputs, int8.h.node.attributes) ?? [];
              const products = Object.entries({ float32, int8, both }).map(([name, { rows }]) => [`y of ${name}`, linear(rows, panels)]);
              return {
                ...Object.fromEntries(products),
                "y of apart": linear(apart!, panels),
                "h of float32": float32.h,
                "h of int8": int8.h,
                "h of both": both.h,
                "normed of float32": float32.normed,
                "normed of both": both.normed,
              };
            },
            inputs,
            { isa, threads },
          );
          for (const [name, output] of Object.entries(outputs))
            expect(sameBits(output, outputs[name.replace(/of .*/, "of float32")]), `${name} on ${isa} with ${threads} threads`).toBe(true);
        }
      }
    });
  }
  test("makes int8 rows of float32 alone", () => {
    const graph = createGraph();
    const [y, weight] = [graph.input("y", tensor("float64", [2, 8])), graph.input("weight", tensor("float64", [8]))];
    expect(() => residualRmsNorm(y, null, weight, { form: "int8" })).toThrow(
      "[residual_rms_norm] makes int8 rows of float32, not of float64",
    );
  });
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
