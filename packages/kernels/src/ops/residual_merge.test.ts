import { describe, test } from "vitest";
import { checkCase, checkGradientCase, throughBfloat16 } from "../operation_cases.js";
import { type TestTensor, testTensor } from "../testing.js";
import { type MergeVectors, residualMerge } from "./residual_merge.js";

type Inputs = Record<string, TestTensor>;

function reference({ y, h, yScale, yBias, hScale, hBias }: Inputs): number[] {
  const D = y!.shape[1]!;
  const at = (vector: TestTensor | undefined, i: number, missing: number) => vector?.data[i % D] ?? missing;
  return Array.from(y!.data, (value, i) => {
    const own = (value + at(yBias, i, 0)) * at(yScale, i, 1);
    return h ? own + (h.data[i]! + at(hBias, i, 0)) * at(hScale, i, 1) : own;
  });
}

const vectors = (D: number): Inputs => ({
  yScale: testTensor([D], 3),
  yBias: testTensor([D], 4),
  hScale: testTensor([D], 5),
  hBias: testTensor([D], 6),
});
const pick = (inputs: Inputs, names: readonly string[]): Inputs => Object.fromEntries(names.map((name) => [name, inputs[name]!]));

const cases: [string, number, number, string[]][] = [
  ["all vectors", 5, 33, ["h", "yScale", "yBias", "hScale", "hBias"]],
  ["all vectors over many rows", 130, 48, ["h", "yScale", "yBias", "hScale", "hBias"]],
  ["no other branch", 4, 16, ["yScale", "yBias"]],
  ["no vector", 3, 7, ["h"]],
  ["one scale of the other branch", 3, 40, ["h", "hScale"]],
  ["no row", 0, 5, ["h", "yScale", "hBias"]],
];

describe("residual_merge", () => {
  for (const [name, T, D, names] of cases) {
    const all: Inputs = { y: testTensor([T, D], 1), h: testTensor([T, D], 2), ...vectors(D) };
    const inputs = pick(all, ["y", ...names]);
    const build = ({ y, h, ...rest }: Parameters<Parameters<typeof checkCase>[0]["build"]>[0]) =>
      residualMerge(y!, h ?? null, rest as MergeVectors);
    test(`merges with ${name}`, async () => {
      await checkCase({ inputs, build: (values) => ({ out: build(values) }), expected: { out: reference(inputs) } });
    });
    if (T > 0 && T * D < 400) {
      test(`has the gradient with ${name} by finite differences`, async () => {
        await checkGradientCase((values) => [build(values)], inputs);
      });
    }
  }
  test("sums the vectors' gradients over more rows than there are chunks", async () => {
    await checkGradientCase(({ y, h, ...rest }) => [residualMerge(y!, h!, rest as MergeVectors)], {
      y: testTensor([150, 2], 1),
      h: testTensor([150, 2], 2),
      ...vectors(2),
    });
  });
  test("reads bfloat16 vectors", async () => {
    const [y, scale] = [testTensor([3, 20], 1), testTensor([20], 2)];
    await checkCase({
      inputs: { y, scale: { ...scale, dtype: "bfloat16" } },
      build: ({ y, scale }) => ({ out: residualMerge(y!, null, { yScale: scale! }) }),
      expected: { out: reference({ y, yScale: { shape: [20], data: throughBfloat16(scale.data) } }) },
    });
  });
});
