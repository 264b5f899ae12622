import { describe, expect, test } from "vitest";
import { createGraph, type Value } from "../graph.js";
import { checkCase, instructionSets, sameBits } from "../operation_cases.js";
import { runGraph, testTensor } from "../testing.js";
import { type PanelType, tensor } from "../types.js";
import { ccaProject, ccaProjectOperation } from "./cca_project.js";
import { encode } from "./encode.js";

const inputsOf = (T: number, D: number, N: number, K: number, W: number) => ({
  x: testTensor([T, D], 1),
  q: testTensor([N, D], 2),
  k: testTensor([K, D], 3),
  current: testTensor([W, D], 4),
  delayed: testTensor([W, D], 5),
});

type Compute = "float32" | "bfloat16";
const together = ({ x, q, k, current, delayed }: Record<string, Value>, compute: Compute) => ({
  ...ccaProject(x!, { q: q!, k: k!, current: current!, delayed: delayed! }, { compute }),
});
const apart = (values: Record<string, Value>, compute: Compute) => {
  const { inputs, attributes } = together(values, compute).z.node;
  const [z, current, delayed] = ccaProjectOperation.decompose?.(inputs, attributes) ?? [];
  return { z: z!, current: current!, delayed: delayed! };
};
const packed = ({ x, ...weights }: Record<string, Value>, dtypes: readonly PanelType[]) => ({
  x: x!,
  ...Object.fromEntries(Object.entries(weights).map(([name, w], i) => [name, encode(w, dtypes[i % dtypes.length] as PanelType)])),
});

describe("cca_project", () => {
  for (const [T, D, N, K, W] of [
    [0, 8, 4, 2, 1],
    [1, 300, 70, 34, 17],
    [2, 65, 33, 5, 2],
    [14, 66, 33, 5, 2],
    [30, 513, 64, 32, 32],
  ] as const) {
    const inputs = inputsOf(T, D, N, K, W);
    test(`projects ${T} tokens of ${D} to ${N}+${K} and twice ${W} columns`, async () => {
      const exact = await runGraph((values) => apart(values, "float32"), inputs, { dtype: "float64" });
      await checkCase({ inputs, build: (values) => together(values, "float32"), expected: exact, tolerance: 1e-6 * D });
    });
    for (const dtypes of [["float32"], ["bfloat16"], ["int8"], ["int4", "int6"], ["int8", "bfloat16"]] as const) {
      test(`gives the bits of a product each, for ${T} tokens and weights of ${dtypes.join(" and ")}`, async () => {
        const compute = dtypes[0] === "float32" ? "float32" : "bfloat16";
        for (const isa of await instructionSets()) {
          const parts = await runGraph((values) => apart(packed(values, dtypes), compute), inputs, { isa });
          for (const threads of [1, 3, 7]) {
            const whole = await runGraph((values) => together(packed(values, dtypes), compute), inputs, { isa, threads });
            for (const output of Object.keys(parts)) expect(sameBits(whole[output], parts[output]), output).toBe(true);
          }
        }
      });
    }
  }
  test("refuses weights of other widths", () => {
    const graph = createGraph();
    const wrong = { ...inputsOf(2, 6, 4, 2, 1), current: testTensor([1, 5], 1) };
    const values = Object.entries(wrong).map(([name, { shape }]) => [name, graph.input(name, tensor("float32", shape))]);
    expect(() => together(Object.fromEntries(values), "float32")).toThrow(
      "[cca_project] expected current_w of shape [1, 6], received [1, 5]",
    );
  });
});
