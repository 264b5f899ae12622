import { describe, expect, test } from "vitest";
import { vectorJacobian } from "../differentiate.js";
import type { InstructionSet } from "../native.js";
import { checkCase, instructionSets, sameBits } from "../operation_cases.js";
import { runGraph, type TestTensor, testIntegers, testTensor } from "../testing.js";
import type { PanelType } from "../types.js";
import { embedding } from "./embedding.js";
import { encode } from "./encode.js";
import { groupedLinear } from "./grouped_linear.js";
import { linear } from "./linear.js";

// Products with weights in quantised panels (native/cpu/quantised.h).

const types = ["int8", "int6", "int4"] as const satisfies readonly PanelType[];

/** The rows that a weight [N,K] has become; `embedding` reads them back. */
async function decoded(w: TestTensor, dtype: PanelType, importance?: TestTensor): Promise<Float32Array> {
  const [N = 0] = w.shape;
  const ids = testIntegers(...Array.from({ length: N }, (_, i) => i));
  const { y } = await runGraph(({ w, ids, h }) => ({ y: embedding(encode(w!, dtype, h), ids!) }), {
    w,
    ids,
    ...(importance && { h: importance }),
  });
  return y as Float32Array;
}

/** x rounded as the kernels do it: to multiples of max |x| / 127, a row and 256 columns at a time. */
function rounded(x: ArrayLike<number>, K: number): number[] {
  const y = Float32Array.from(x);
  for (let begin = 0; begin < y.length; ) {
    const end = Math.min(begin + 256, Math.ceil((begin + 1) / K) * K);
    const block = y.subarray(begin, end);
    const most = block.reduce((m, v) => Math.max(m, Math.abs(v)), 0);
    const [d, inverse] = [Math.fround(most / 127), most === 0 ? 0 : Math.fround(127 / most)];
    block.forEach((v, i) => {
      const scaled = Math.fround(v * inverse);
      const down = Math.floor(scaled);
      const rest = scaled - down;
      block[i] = d * (rest > 0.5 || (rest === 0.5 && down % 2 !== 0) ? down + 1 : down);
    });
    begin = end;
  }
  return [...y];
}

function product(x: ArrayLike<number>, w: ArrayLike<number>, T: number, N: number, K: number): number[] {
  return Array.from({ length: T * N }, (_, i) => {
    const [t, n] = [Math.floor(i / N), i % N];
    let sum = 0;
    for (let k = 0; k < K; k++) sum += x[t * K + k]! * w[n * K + k]!;
    return sum;
  });
}

const sizes = [
  [0, 5, 3],
  [1, 1, 1],
  [1, 33, 70],
  [1, 357, 300], // panels side by side, and those that are left
  [1, 1010, 544],
  [2, 64, 256],
  [3, 31, 300],
  [4, 40, 513],
  [5, 65, 96],
  [7, 40, 300],
  [8, 33, 270],
  [13, 97, 257],
  [250, 34, 130],
  [515, 528, 20], // larger than a cache: results are streamed past it
] as const;

describe.each(types)("%s panels", (dtype) => {
  test.each(sizes)("multiply %i rows by a weight of %i rows and %i columns, exactly but for float32", async (T, N, K) => {
    const [x, w, bias] = [testTensor([T, K], 1), testTensor([N, K], 2), testTensor([N], 3)];
    const plain = product(rounded(x.data, K), await decoded(w, dtype), T, N, K);
    await checkCase({
      inputs: { x, w, bias },
      build: ({ x, w, bias }) => ({ y: linear(x!, encode(w!, dtype)), biased: linear(x!, encode(w!, dtype), { bias: bias! }) }),
      expected: { y: plain, biased: plain.map((y, i) => y + bias.data[i % N]!) },
      float64: false,
      tolerance: 1e-5,
    });
  });

  test("multiply each group of rows by its own weight and give zeros for skipped rows", async () => {
    const [E, T, N, K] = [3, 30, 33, 290];
    const [x, w] = [testTensor([T, K], 4), testTensor([E, N, K], 5)];
    const offsets = [0, 14, 14, 27, 30]; // an empty group, and three rows that skip
    const y = new Array<number>(T * N).fill(0);
    for (let e = 0; e < E; e++) {
      const values = await decoded({ shape: [N, K], data: [...(w.data as number[])].slice(e * N * K, (e + 1) * N * K) }, dtype);
      const [begin, end] = [offsets[e]!, offsets[e + 1]!];
      const rows = rounded((x.data as number[]).slice(begin * K, end * K), K);
      y.splice(begin * N, (end - begin) * N, ...product(rows, values, end - begin, N, K));
    }
    await checkCase({
      inputs: { x, w, offsets: testIntegers(...offsets) },
      build: ({ x, w, offsets }) => ({ y: groupedLinear(x!, encode(w!, dtype), offsets!) }),
      expected: { y },
      float64: false,
      tolerance: 1e-5,
    });
  });

  test("give a row the same bits alone and among others", async () => {
    const [T, N, K] = [29, 390, 520];
    const [x, w] = [testTensor([T, K], 6), testTensor([N, K], 7)];
    for (const isa of await instructionSets()) {
      const run = (from: number, to: number) =>
        runGraph(
          ({ x, w }) => ({ y: linear(x!, encode(w!, dtype)) }),
          { x: { shape: [to - from, K], data: (x.data as number[]).slice(from * K, to * K) }, w },
          { isa },
        );
      const { y: all } = await run(0, T);
      for (const [from, to] of [
        [0, 1],
        [7, 9],
        [3, 7],
        [11, 17],
        [20, 27],
        [2, 10],
        [5, 18],
      ] as const) {
        const { y } = await run(from, to);
        expect(sameBits(y, (all as Float32Array).slice(from * N, to * N)), `rows ${from} to ${to} on ${isa}`).toBe(true);
      }
    }
  });

  test("multiply the largest integers without saturation, alike on all instruction sets", async () => {
    const [T, N, K] = [13, 45, 544];
    const signs = (seed: number) => (testTensor([1, N * K], seed).data as number[]).map(Math.sign);
    const [x, w] = [signs(12).slice(0, T * K), signs(13)];
    w.forEach((_, i) => {
      if (i % 7 === 0) w[i]! *= 0.3;
    });
    // Two rows of x against two rows of w whose products all have one sign: ±127 · 127, summed over a whole block.
    x.fill(1, 0, K).fill(-1, K, 2 * K);
    w.fill(1, 0, K).fill(-1, K, 2 * K);
    const run = (isa: InstructionSet) =>
      runGraph(
        ({ x, w }) => ({ y: linear(x!, encode(w!, dtype)) }),
        { x: { shape: [T, K], data: x }, w: { shape: [N, K], data: w } },
        { isa },
      );
    const [portable, ...others] = await Promise.all((await instructionSets()).map(run));
    for (const y of [0, 1, N, N + 1])
      expect(Math.abs((portable!.y![y] as number) * (y % N === Math.floor(y / N) ? 1 : -1) - K)).toBeLessThan(1e-3);
    // The sums over a block are exact in integers everywhere; vector units add them with the same fused multiply-adds.
    for (const other of others) {
      expect(sameBits(other.y, others[0]!.y)).toBe(true);
      for (const [i, y] of Array.from(other.y as Float32Array).entries())
        expect(Math.abs(y - (portable!.y![i] as number))).toBeLessThan(1e-4);
    }
  });

  test("keep weights within the error of their width, and zero rows zero", async () => {
    const [N, K] = [40, 300];
    const w = testTensor([N, K], 8).data as number[];
    w.fill(0, 0, K);
    const values = await decoded({ shape: [N, K], data: w }, dtype);
    const error = Math.sqrt(values.reduce((sum, v, i) => sum + (v - w[i]!) ** 2, 0) / w.reduce((sum, v) => sum + v * v, 0));
    // Uniform numbers, range 2 and deviation 1/√3: a step of 2/255, 2/63, 2/15 is off by step/√12, here 0.4, 1.6 and 6.7 % of the deviation.
    expect(error).toBeLessThan({ int8: 0.0045, int6: 0.019, int4: 0.069 }[dtype]);
    expect(values.subarray(0, K).every((v) => v === 0)).toBe(true);
  });
});

test.each(["int6", "int4"] as const)("importance lowers the error of %s where it counts", async (dtype) => {
  const [N, K] = [32, 256];
  const w = testTensor([N, K], 9);
  const h = Array.from({ length: K }, (_, k) => (k % 8 === 0 ? 100 : 1));
  const weighted = (values: Float32Array) => values.reduce((sum, v, i) => sum + h[i % K]! * (v - w.data[i]!) ** 2, 0);
  const [plain, aware] = [await decoded(w, dtype), await decoded(w, dtype, { shape: [K], data: h })];
  expect(weighted(aware)).toBeLessThan({ int6: 0.9, int4: 0.7 }[dtype] * weighted(plain));
});

test("a NaN in x makes its row NaN and no other", async () => {
  const x = testTensor([2, 300], 10).data as number[];
  x[7] = Number.NaN;
  const { y } = await runGraph(({ x, w }) => ({ y: linear(x!, encode(w!, "int4")) }), {
    x: { shape: [2, 300], data: x },
    w: testTensor([5, 300], 11),
  });
  expect([...(y as Float32Array)].map(Number.isNaN)).toEqual([...Array(5).fill(true), ...Array(5).fill(false)]);
});

test("a gradient through quantised weights is refused", async () => {
  const [x, w] = [testTensor([2, 32], 12), testTensor([4, 32], 13)];
  const run = runGraph(
    ({ x, w }) => {
      const y = linear(x!, encode(w!, "int8"));
      return { dx: vectorJacobian([y], [y], [x!])[0]! };
    },
    { x, w },
  );
  await expect(run).rejects.toThrow("[linear_input_grad] expected w that is not quantised, received int8 panels");
});
