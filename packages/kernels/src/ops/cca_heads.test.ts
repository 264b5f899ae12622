import { describe, expect, test } from "vitest";
import { createGraph, type Value } from "../graph.js";
import { checkCase, instructionSets, sameBits } from "../operation_cases.js";
import { runGraph, type TestTensor, testIntegers, testTensor } from "../testing.js";
import { tensor } from "../types.js";
import { type CcaHeadsInputs, ccaHeads, ccaHeadsOperation } from "./cca_heads.js";
import { encode } from "./encode.js";
import { reshape } from "./reshape.js";

type Inputs = Record<string, TestTensor>;
interface Shape {
  readonly T: number;
  readonly N: number;
  readonly K: number;
  readonly H: number;
  readonly rotary: number;
  readonly clampTemp?: boolean;
}

const inputsOf = ({ T, N, K, H }: Shape, cu: readonly number[], cached: readonly number[]): Inputs => {
  const [C, W, S] = [(N + K) * H, (K * H) / 2, cu.length - 1];
  return {
    z: testTensor([T, C], 1),
    current: testTensor([T, W], 2),
    delayed: testTensor([T, W], 3),
    depthwiseWeight: testTensor([C, 1, 2], 4),
    depthwiseBias: testTensor([C], 5),
    groupedWeight: testTensor([C, H, 2], 6, 1 / Math.sqrt(H)),
    groupedBias: testTensor([C], 7),
    temp: testTensor([K], 8, 2),
    positions: testIntegers(...Array.from({ length: T }, (_, t) => (t * 37) % 1000)),
    cuSeqlens: testIntegers(...cu),
    convState: testTensor([S + 2, 2, C], 9),
    delayState: testTensor([S + 2, 1, W], 10),
    slots: testIntegers(...Array.from({ length: S }, (_, s) => S + 1 - s)),
    cached: testIntegers(...cached),
  };
};

const options = ({ N, rotary, clampTemp = false }: Shape) => ({ queryHeads: N, rotary, theta: 5e6, clampTemp });
const fused = (values: Record<string, Value>, shape: Shape) => ({ ...ccaHeads(values as unknown as CcaHeadsInputs, options(shape)) });
const apart = (values: Record<string, Value>, shape: Shape) => {
  const { inputs, attributes } = fused(values, shape).q.node;
  const [q, k, v, convTail, delayTail] = ccaHeadsOperation.decompose?.(inputs, attributes) ?? [];
  return { q: q!, k: k!, v: v!, convTail: convTail!, delayTail: delayTail! };
};

const cases: [string, Shape, number[], number[]][] = [
  ["a token that goes on", { T: 1, N: 2, K: 1, H: 8, rotary: 4 }, [0, 1], [5]],
  ["a first token, one that goes on, none and three", { T: 5, N: 4, K: 2, H: 6, rotary: 2 }, [0, 1, 2, 2, 5], [0, 3, 7, 1]],
  ["rows that belong to no sequence", { T: 7, N: 2, K: 2, H: 17 + 1, rotary: 18, clampTemp: true }, [0, 4], [2]],
  ["more rows than a block", { T: 131, N: 2, K: 1, H: 34, rotary: 0 }, [0, 60, 97, 131], [0, 9, 1]],
  ["the published sizes", { T: 13, N: 8, K: 2, H: 128, rotary: 64 }, [0, 13], [40]],
  ["no token", { T: 0, N: 2, K: 1, H: 4, rotary: 4 }, [0, 0], [0]],
];

describe("cca_heads", () => {
  for (const [name, shape, cu, cached] of cases) {
    test(`gives the bits of its operations one after the other: ${name}`, async () => {
      const inputs = inputsOf(shape, cu, cached);
      const exact = await runGraph((values) => apart(values, shape), inputs, { dtype: "float64" });
      await checkCase({ inputs, build: (values) => fused(values, shape), expected: exact, tolerance: 2e-5 });
      for (const isa of await instructionSets()) {
        const whole = await runGraph((values) => fused(values, shape), inputs, { isa });
        const parts = await runGraph((values) => apart(values, shape), inputs, { isa });
        for (const output of Object.keys(parts)) expect(sameBits(whole[output], parts[output]), output).toBe(true);
      }
    });
  }

  test("reads the grouped weight from panels", async () => {
    const shape = { T: 30, N: 4, K: 2, H: 40, rotary: 20 };
    const inputs = inputsOf(shape, [0, 10, 30], [3, 0]);
    for (const isa of await instructionSets()) {
      const plain = await runGraph((values) => fused(values, shape), inputs, { isa });
      const packed = await runGraph(
        (values) => fused({ ...values, groupedWeight: encode(reshape(values.groupedWeight!, [6, 40, 80]), "float32") }, shape),
        inputs,
        { isa },
      );
      for (const output of Object.keys(plain)) expect(sameBits(packed[output], plain[output]), output).toBe(true);
    }
  });

  test("refuses heads that do not fit the channels, and an odd rotary size", () => {
    const call = (shape: Shape) => {
      const graph = createGraph();
      const values = Object.entries(inputsOf({ ...shape, N: 2 }, [0, 1], [0])).map(([name, { shape: sizes, dtype }]) => [
        name,
        graph.input(name, tensor(dtype ?? "float32", sizes)),
      ]);
      return () => fused(Object.fromEntries(values), shape);
    };
    expect(call({ T: 1, N: 3, K: 1, H: 4, rotary: 4 })).toThrow("[cca_heads] 3 query heads, 1 key heads and groups of 4 channels");
    expect(call({ T: 1, N: 2, K: 1, H: 4, rotary: 3 })).toThrow(
      "[cca_heads] expected an even number of rotary dimensions up to 4, received 3",
    );
  });
});
