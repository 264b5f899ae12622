import { describe, expect, test } from "vitest";
import { createGraph, type Value } from "../graph.js";
import { instructionSets, sameBits } from "../operation_cases.js";
import { runGraph, type TestTensor, testIntegers, testTensor } from "../testing.js";
import { bytesOf, tensor } from "../types.js";
import { ccaProject } from "./cca_project.js";
import { encode } from "./encode.js";
import { experts, expertsOperation } from "./experts.js";
import { groupedLinear } from "./grouped_linear.js";
import { linear } from "./linear.js";
import { quantise } from "./quantise.js";

/** Checks that build gives the same bits from x as int8 rows and from x as float32, on all instruction sets and numbers of threads. */
async function checkSameBits(
  inputs: Readonly<Record<string, TestTensor>>,
  build: (x: Value, values: Record<string, Value>) => Record<string, Value>,
): Promise<void> {
  for (const isa of await instructionSets()) {
    const floats = await runGraph((values) => build(values.x!, values), inputs, { isa });
    for (const threads of [1, 2, 3, 7]) {
      const integers = await runGraph((values) => build(quantise(values.x!), values), inputs, { isa, threads });
      for (const [name, output] of Object.entries(floats))
        expect(sameBits(integers[name], output), `${name} on ${isa} with ${threads} threads`).toBe(true);
    }
  }
}

describe.each([
  [0, 40],
  [1, 1],
  [1, 300],
  [2, 256],
  [13, 257],
  [41, 544],
  [2, 2048],
] as const)("quantise %i rows of %i columns", (T, K) => {
  const x = testTensor([T, K], 1);

  test("for products", () =>
    checkSameBits({ x, w: testTensor([35, K], 2) }, (x, { w }) => ({
      int8: linear(x, encode(w!, "int8")),
      int4: linear(x, encode(w!, "int4")),
    })));

  test("for the projections of an attention", () =>
    checkSameBits({ x, q: testTensor([64, K], 3), w: testTensor([17, K], 4) }, (x, { q, w }) => {
      const narrow = encode(w!, "int6");
      return ccaProject(x, { q: encode(q!, "int8"), k: narrow, current: narrow, delayed: narrow });
    }));

  test("for experts, as one operation and as its parts", async () => {
    const index = testIntegers(...Array.from({ length: T }, (_, t) => (t * 5) % 4)); // 3: skip
    const inputs = { x, index, prob: testTensor([T], 5), gateUp: testTensor([3, 64, K], 6), down: testTensor([3, K, 32], 7) };
    await checkSameBits(inputs, (x, { index, prob, gateUp, down }) => {
      const whole = experts(x, index!, prob!, encode(gateUp!, "int4"), encode(down!, "int8"));
      const [parts] = expertsOperation.decompose?.(whole.node.inputs, whole.node.attributes) ?? [];
      return { whole, parts: parts! };
    });
  });

  test("into as many bytes as they have", async () => {
    const { q } = await runGraph(({ x }) => ({ q: quantise(x!) }), { x });
    expect(q!.byteLength).toBe(bytesOf({ dtype: "int8", encoding: "rows" }, [T, K]));
    const last = Array.from(x.data).slice((T - 1) * K + Math.floor((K - 1) / 256) * 256); // of the last row, the columns of the last block
    if (T > 0)
      expect(new Float32Array(q!.buffer, q!.byteOffset + q!.byteLength - 64, 1)[0]).toBeCloseTo(Math.max(...last.map(Math.abs)) / 127);
  });

  test("for groups of rows", () =>
    checkSameBits({ x, offsets: testIntegers(0, Math.floor(T / 3), T, T), w: testTensor([2, 33, K], 8) }, (x, { offsets, w }) => ({
      y: groupedLinear(x, encode(w!, "int8"), offsets!),
    })));
});

test("int8 rows are for quantised weights alone", () => {
  const graph = createGraph();
  const [x, w] = [graph.input("x", tensor("float32", [2, 32])), graph.input("w", tensor("float32", [4, 32]))];
  expect(() => linear(quantise(x), w)).toThrow("[linear] takes x as int8 rows only with weights in quantised panels");
  expect(() => quantise(graph.input("y", tensor("float64", [2, 32])))).toThrow("[quantise] expected x of type float32, received float64");
});
