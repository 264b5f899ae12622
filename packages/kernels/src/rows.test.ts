import { describe, expect, test } from "vitest";
import type { Value } from "./graph.js";
import { instructionSets, sameBits } from "./operation_cases.js";
import { ccaQk } from "./ops/cca_qk.js";
import { gelu } from "./ops/gelu.js";
import { residualRmsNorm } from "./ops/residual_rms_norm.js";
import { rmsNorm } from "./ops/rms_norm.js";
import { selectExpert } from "./ops/select_expert.js";
import { slice } from "./ops/slice.js";
import { softmax } from "./ops/softmax.js";
import { swiglu } from "./ops/swiglu.js";
import { runGraph, testTensor } from "./testing.js";

// What makes decoding equal to prefilling bit for bit: no row's result depends on how many rows are there, or which.
type Build = (x: Value, weight: Value) => Record<string, Value>;
const columns = 52;
const operations: Record<string, Build> = {
  rms_norm: (x, weight) => ({ y: rmsNorm(x, weight) }),
  residual_rms_norm: (x, weight) => ({ ...residualRmsNorm(x, x, weight, { yScale: weight, hBias: weight }) }),
  cca_qk: (x, weight) => ({ ...ccaQk(x, gelu(x), slice(weight, { begin: 0, end: 1 }), { queryHeads: 3 }) }),
  gelu: (x) => ({ y: gelu(x) }),
  swiglu: (x) => ({ y: swiglu(x) }),
  softmax: (x) => ({ y: softmax(x) }),
  select_expert: (x, weight) => ({ ...selectExpert(x, weight) }),
};

describe("a row", () => {
  const all = testTensor([130, columns], 1, 3);
  const weight = testTensor([columns], 2);
  for (const [name, build] of Object.entries(operations)) {
    test(`has the same bits alone as among others in ${name}`, async () => {
      for (const isa of await instructionSets()) {
        const whole = await runGraph(({ x, weight }) => build(x!, weight!), { x: all, weight }, { isa });
        for (const [begin, end] of [
          [0, 1],
          [77, 78],
          [129, 130],
          [63, 97],
        ] as const) {
          const x = { shape: [end - begin, columns], data: Array.from(all.data).slice(begin * columns, end * columns) };
          const part = await runGraph(({ x, weight }) => build(x!, weight!), { x, weight }, { isa });
          for (const [output, values] of Object.entries(part)) {
            const row = values.length / (end - begin);
            expect(sameBits(values, whole[output]!.slice(begin * row, end * row)), `${output} of rows ${begin} to ${end}`).toBe(true);
          }
        }
      }
    });
  }
});
