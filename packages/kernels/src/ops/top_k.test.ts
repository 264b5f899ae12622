import { describe, expect, test } from "vitest";
import { createGraph } from "../graph.js";
import { checkCase, instructionSets } from "../operation_cases.js";
import { runGraph, type TestTensor, testNumbers } from "../testing.js";
import { tensor } from "../types.js";
import { logitChunk, topK } from "./top_k.js";

const build =
  (k: number) =>
  ({ logits, temperatures }: Record<string, ReturnType<typeof topK>["values"]>) => ({ ...topK(logits!, temperatures!, k) });

/** What sorting everything gives. */
function bySorting(logits: TestTensor, temperatures: readonly number[], k: number) {
  const [rows = 0, columns = 0] = logits.shape;
  const expected = { values: [] as number[], ids: [] as number[], sums: [] as number[], masses: [] as number[] };
  for (let r = 0; r < rows; r++) {
    const row = Array.from({ length: columns }, (_, v) => Math.fround(logits.data[r * columns + v]!));
    const order = row.map((_, v) => v).sort((a, b) => row[b]! - row[a]! || a - b);
    const max = row[order[0]!]!;
    const sum = (temperature: number, part = row) => part.reduce((total, x) => total + Math.exp((x - max) / temperature), 0);
    expected.values.push(...order.slice(0, k).map((v) => row[v]!));
    expected.ids.push(...order.slice(0, k));
    expected.sums.push(sum(1), temperatures[r] === 0 ? 1 : sum(temperatures[r]!));
    for (let begin = 0; begin < columns; begin += logitChunk)
      expected.masses.push(temperatures[r] === 0 ? 0 : sum(temperatures[r]!, row.slice(begin, begin + logitChunk)));
  }
  return expected;
}

const random = (rows: number, columns: number, seed: number) => ({
  shape: [rows, columns],
  data: testNumbers(rows * columns, seed).map((x) => x * 12),
});
const few = (rows: number, columns: number, seed: number) => ({
  shape: [rows, columns],
  data: testNumbers(rows * columns, seed).map((x) => Math.round(x * 2)),
});

describe("top_k", () => {
  for (const [name, logits, temperatures, k] of [
    ["one logit", random(1, 1, 1), [1], 1],
    ["no rows", random(0, 7, 1), [], 3],
    ["fewer groups than k", random(3, 200, 2), [1, 0.5, 0], 100],
    ["all of them", random(2, 77, 3), [2, 0.1], 77],
    ["several chunks, an odd end", random(2, 20_011, 4), [0.7, 1.3], 64],
    ["ties everywhere", few(2, 9_000, 5), [1, 3], 40],
    ["one value", { shape: [1, 5000], data: new Array<number>(5000).fill(-3) }, [1], 9],
    ["zeros of both signs", { shape: [1, 6], data: [-0, 0, -1, 0, -0, 5] }, [1], 6],
    ["forbidden tokens", { shape: [1, 6], data: [1, -Infinity, 2, -Infinity, 0, -Infinity] }, [1], 5],
  ] as const)
    test(`ranks as a full sort does: ${name}`, () =>
      checkCase({
        inputs: { logits, temperatures: { shape: [temperatures.length], data: temperatures } },
        build: build(k),
        expected: bySorting(logits, temperatures, k),
        tolerance: 4e-6, // of a mass: up to 512 additions in a lane
        float64: false,
      }));

  test("says that a row is not finite in its sums, and only there", async () => {
    for (const bad of [Number.NaN, Number.POSITIVE_INFINITY])
      for (const isa of await instructionSets()) {
        const data = random(3, 300, 6).data;
        data[2 * 300 + 150] = bad;
        const { sums } = await runGraph(
          build(8),
          { logits: { shape: [3, 300], data }, temperatures: { shape: [3], data: [1, 1, 0.5] } },
          { isa },
        );
        expect([...sums!].map(Number.isFinite)).toEqual([true, true, true, true, false, false]);
      }
  });

  test("refuses a k that no row has", () => {
    const graph = createGraph();
    const logits = graph.input("logits", tensor("float32", [2, 10]));
    const temperatures = graph.input("temperatures", tensor("float32", [2]));
    for (const k of [0, 11, 1.5])
      expect(() => topK(logits, temperatures, k)).toThrow(`expected k from 1 to the 10 logits of a row, received ${k}`);
    expect(() => topK(logits, logits, 3)).toThrow("[top_k] expected temperatures of 1 dimensions");
  });
});
