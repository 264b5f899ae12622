import { describe, expect, test } from "vitest";
import { createGraph, type Value } from "../graph.js";
import { checkCase, instructionSets, sameBits, throughBfloat16 } from "../operation_cases.js";
import { runGraph, type TestTensor, testTensor } from "../testing.js";
import { type PanelType, tensor } from "../types.js";
import { encode } from "./encode.js";
import { type RouterWeights, router, routerOperation } from "./router.js";

type Inputs = Record<string, TestTensor>;

const inputsOf = (T: number, D: number, R: number, C: number): Inputs => ({
  x: testTensor([T, D], 1),
  previous: testTensor([T, R], 2),
  scale: testTensor([R], 3),
  downWeight: testTensor([R, D], 4, 2 / Math.sqrt(D)),
  downBias: testTensor([R], 5),
  normWeight: testTensor([R], 6, 2),
  fc1Weight: testTensor([R, R], 7, 2 / Math.sqrt(R)),
  fc1Bias: testTensor([R], 8),
  fc2Weight: testTensor([R, R], 9, 2 / Math.sqrt(R)),
  fc2Bias: testTensor([R], 10),
  outWeight: testTensor([C, R], 11, 8 / Math.sqrt(R)),
  balancing: testTensor([C], 12, 0.1),
});

const fused = ({ x, previous, scale, ...weights }: Record<string, Value>, first = false) => ({
  ...router(x!, first ? null : { r: previous!, scale: scale! }, weights as unknown as RouterWeights, { eps: 1e-5 }),
});
const apart = (values: Record<string, Value>, first = false) => {
  const { inputs, attributes } = fused(values, first).r.node;
  const [r, index, prob] = routerOperation.decompose?.(inputs, attributes) ?? [];
  return { r: r!, index: index!, prob: prob! };
};

const cases: [number, number, number, number, boolean][] = [
  [0, 8, 4, 3, false],
  [1, 7, 5, 2, true],
  [1, 66, 34, 9, false],
  [3, 70, 33, 5, false],
  [24, 64, 32, 33, false],
  [25, 65, 40, 17, true],
  [61, 130, 66, 9, false],
  [14, 35, 33, 3, false],
  [13, 2048, 256, 17, false],
];

describe("router", () => {
  for (const [T, D, R, C, first] of cases) {
    test(`gives the bits of its operations one after the other: ${T} tokens of ${D}, ${R} states, ${C} classes${first ? ", first layer" : ""}`, async () => {
      const inputs = inputsOf(T, D, R, C);
      const exact = await runGraph((values) => apart(values, first), inputs, { dtype: "float64" });
      await checkCase({ inputs, build: (values) => fused(values, first), expected: exact, tolerance: 1e-5 });
      for (const isa of await instructionSets()) {
        const whole = await runGraph((values) => fused(values, first), inputs, { isa });
        const parts = await runGraph((values) => apart(values, first), inputs, { isa });
        for (const output of Object.keys(parts)) expect(sameBits(whole[output], parts[output]), output).toBe(true);
      }
    });
  }

  test("reads its matrices from panels of float32 and of bfloat16, and gives a token the same bits alone", async () => {
    const [T, D, R] = [30, 90, 40];
    const inputs = inputsOf(T, D, R, 6);
    const matrices = ["downWeight", "fc1Weight", "fc2Weight", "outWeight"];
    for (const name of matrices) inputs[name] = { ...inputs[name]!, data: throughBfloat16(inputs[name]!.data) };
    const inPanels = (dtype: PanelType) => (values: Record<string, Value>) =>
      fused({ ...values, ...Object.fromEntries(matrices.map((name) => [name, encode(values[name]!, dtype)])) });
    const row = (name: string, width: number): TestTensor => ({
      shape: [1, width],
      data: Array.from(inputs[name]!.data).slice(27 * width, 28 * width),
    });
    for (const isa of await instructionSets()) {
      const plain = await runGraph((values) => fused(values), inputs, { isa });
      for (const dtype of ["float32", "bfloat16"] as const) {
        const packed = await runGraph(inPanels(dtype), inputs, { isa });
        for (const output of Object.keys(plain)) expect(sameBits(packed[output], plain[output]), output).toBe(true);
        const alone = await runGraph(inPanels(dtype), { ...inputs, x: row("x", D), previous: row("previous", R) }, { isa });
        expect(sameBits(alone.r, plain.r?.slice(27 * R, 28 * R))).toBe(true);
        expect(sameBits(alone.index, plain.index?.slice(27, 28))).toBe(true);
        expect(sameBits(alone.prob, plain.prob?.slice(27, 28))).toBe(true);
      }
    }
  });

  test("refuses weights that do not fit each other", () => {
    const graph = createGraph();
    const wrong = { ...inputsOf(2, 6, 4, 3), fc2Weight: testTensor([4, 5], 1) };
    const values = Object.entries(wrong).map(([name, { shape }]) => [name, graph.input(name, tensor("float32", shape))]);
    expect(() => fused(Object.fromEntries(values))).toThrow("[router] expected fc2_w of shape [4, 4], received [4, 5]");
  });
});
