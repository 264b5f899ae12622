import { describe, expect, test } from "vitest";
import { costOf } from "../cost.js";
import { differentiate, vectorJacobian } from "../differentiate.js";
import { createGraph } from "../graph.js";
import { checkCase, checkGradientCase, instructionSets, sameBits, throughBfloat16 } from "../operation_cases.js";
import { runGraph, type TestTensor, testIntegers, testTensor } from "../testing.js";
import { tensor } from "../types.js";
import { attention } from "./attention.js";
import { slice } from "./slice.js";
import { sum } from "./sum.js";

type Inputs = Record<string, TestTensor>;

function documents(N: number, K: number, H: number, lengths: readonly number[], spare = 0, scale = 2): Inputs {
  const cu = [0];
  for (const length of lengths) cu.push(cu.at(-1)! + length);
  const T = cu.at(-1)! + spare;
  return {
    q: testTensor([T, N, H], 1, scale),
    k: testTensor([T, K, H], 2, scale),
    v: testTensor([T, K, H], 3),
    cu: testIntegers(...cu),
  };
}

/** One query after the other, in double precision. */
function reference({ q, k, v, cu }: Inputs, window: number): { o: number[]; lse: number[] } {
  const [T, N, H] = q!.shape as [number, number, number];
  const K = k!.shape[1]!;
  const o = new Array<number>(T * N * H).fill(0);
  const lse = new Array<number>(T * N).fill(0);
  for (let s = 0; s + 1 < cu!.data.length; s++) {
    for (let t = cu!.data[s]!; t < cu!.data[s + 1]!; t++) {
      const first = window > 0 ? Math.max(cu!.data[s]!, t - window + 1) : cu!.data[s]!;
      for (let n = 0; n < N; n++) {
        const row = (t * N + n) * H;
        const keys = Array.from({ length: t + 1 - first }, (_, j) => ((first + j) * K + Math.floor((n * K) / N)) * H);
        const scores = keys.map((key) => {
          let dot = 0;
          for (let h = 0; h < H; h++) dot += q!.data[row + h]! * k!.data[key + h]!;
          return dot / Math.sqrt(H);
        });
        const largest = Math.max(...scores);
        const weights = scores.map((score) => Math.exp(score - largest));
        const total = weights.reduce((a, b) => a + b, 0);
        lse[t * N + n] = largest + Math.log(total);
        keys.forEach((key, j) => {
          for (let h = 0; h < H; h++) o[row + h]! += (weights[j]! / total) * v!.data[key + h]!;
        });
      }
    }
  }
  return { o, lse };
}

const build =
  (window = 0): Parameters<typeof checkCase>[0]["build"] =>
  ({ q, k, v, cu }) => ({ ...attention(q!, k!, v!, cu!, { window }) });

/** dq, dk, dv for a given do. */
const gradients =
  (window = 0): Parameters<typeof checkCase>[0]["build"] =>
  ({ q, k, v, cu, dout }) => {
    const [dq, dk, dv] = vectorJacobian([attention(q!, k!, v!, cu!, { window }).o], [dout!], [q!, k!, v!]);
    return { dq: dq!, dk: dk!, dv: dv! };
  };

/** The elements of rows [begin, end). */
function rows(data: ArrayLike<number>, width: number, begin: number, end: number): number[] {
  return Array.from({ length: (end - begin) * width }, (_, i) => data[begin * width + i]!);
}

describe("attention", () => {
  for (const [N, K, H, lengths, window] of [
    [1, 1, 1, [1], 0],
    [2, 1, 8, [0], 0],
    [4, 2, 16, [1, 31, 0, 32, 33, 100], 0],
    [6, 2, 24, [65, 3], 0],
    [8, 2, 64, [70], 0],
    [8, 2, 128, [40], 0],
    [10, 2, 20, [45], 0],
    [60, 1, 5, [35], 0],
    [2, 2, 33, [530, 20], 0],
    [4, 2, 16, [100, 20], 1],
    [4, 2, 16, [100, 20], 7],
    [4, 1, 16, [100, 31], 32],
    [2, 2, 16, [100, 31], 33],
    [2, 1, 8, [1100], 100],
    [2, 1, 8, [50], 1000],
  ] as const) {
    test(`attends with ${N} heads of ${H} on ${K}, documents of ${lengths.join(", ")}, ${window > 0 ? `window ${window}` : "no window"}`, async () => {
      const inputs = documents(N, K, H, lengths);
      await checkCase({ inputs, build: build(window), expected: { ...reference(inputs, window) }, tolerance: 4e-6 });
    });
  }

  for (const [N, K, H, lengths, window] of [
    [1, 1, 1, [1], 0],
    [2, 1, 8, [0], 0],
    [4, 2, 16, [1, 31, 0, 32, 33, 100], 0],
    [6, 2, 24, [65, 3], 0],
    [8, 2, 128, [40], 0],
    [10, 2, 20, [45], 0],
    [60, 1, 5, [35], 0],
    [2, 2, 33, [530, 20], 0],
    [4, 2, 16, [100, 20], 1],
    [4, 1, 16, [150, 31], 32],
    [2, 2, 16, [100, 131], 65],
    [2, 1, 8, [600], 100],
  ] as const) {
    test(`rounds its operands to bfloat16 where asked: ${N} heads of ${H} on ${K}, documents of ${lengths.join(", ")}, window ${window}`, async () => {
      const inputs = documents(N, K, H, lengths, 2);
      const rounded = Object.fromEntries(
        Object.entries(inputs).map(([name, x]) => [name, name === "cu" ? x : { ...x, data: throughBfloat16(x.data) }]),
      );
      await checkCase({
        inputs,
        build: ({ q, k, v, cu }) => ({ ...attention(q!, k!, v!, cu!, { window, compute: "bfloat16" }) }),
        expected: { ...reference(rounded, window) },
        tolerance: 2 ** -6,
        float64: false,
      });
      // Its gradient is near that in float32.
      const dout = testTensor(inputs.q!.shape, 9);
      const near = await runGraph(gradients(window), { ...inputs, dout });
      await checkCase({
        inputs: { ...inputs, dout },
        build: ({ q, k, v, cu, dout }) => {
          const [dq, dk, dv] = vectorJacobian([attention(q!, k!, v!, cu!, { window, compute: "bfloat16" }).o], [dout!], [q!, k!, v!]);
          return { dq: dq!, dk: dk!, dv: dv! };
        },
        expected: near as Record<string, Float32Array>,
        tolerance: 2 ** -5,
        float64: false,
      });
    });
  }

  test("writes zeros to rows that belong to no document", async () => {
    const inputs = documents(4, 2, 16, [5, 40], 3);
    await checkCase({ inputs, build: build(), expected: { ...reference(inputs, 0) } });
  });

  test("keeps its accuracy with scores of ±500", async () => {
    const inputs = documents(2, 1, 16, [70], 0, 20);
    await checkCase({ inputs, build: build(), expected: { ...reference(inputs, 0) }, tolerance: 2e-4 });
  });

  test("moves nothing in a document when its neighbour changes, forward and backward", async () => {
    const inputs: Inputs = { ...documents(4, 2, 16, [40, 150, 33]), dout: testTensor([223, 4, 16], 9) };
    const disturb = (x: TestTensor) => {
      const width = x.shape[1]! * x.shape[2]!;
      return { ...x, data: Array.from(x.data, (value, i) => (i >= 40 * width && i < 190 * width ? Number.NaN : value)) };
    };
    const changed = { ...inputs, q: disturb(inputs.q!), k: disturb(inputs.k!), v: disturb(inputs.v!), dout: disturb(inputs.dout!) };
    for (const isa of await instructionSets()) {
      for (const make of [build(), gradients()]) {
        const before = await runGraph(make, inputs, { isa });
        const after = await runGraph(make, changed, { isa });
        for (const [name, x] of Object.entries(before)) {
          const y = after[name]!;
          const width = x.length / 223;
          expect(sameBits(x.slice(0, 40 * width), y.slice(0, 40 * width)), name).toBe(true);
          expect(sameBits(x.slice(190 * width), y.slice(190 * width)), name).toBe(true);
          expect(y.slice(40 * width, 190 * width).some(Number.isNaN), name).toBe(true);
        }
      }
    }
  });

  test("gives a document the same bits alone as among others, forward and backward", async () => {
    const all: Inputs = { ...documents(6, 2, 24, [13, 140, 50]), dout: testTensor([203, 6, 24], 9) };
    const alone: Inputs = { cu: testIntegers(0, 140) };
    for (const [name, x] of Object.entries(all)) {
      if (name !== "cu") alone[name] = { shape: [140, x.shape[1]!, 24], data: rows(x.data, x.shape[1]! * 24, 13, 153) };
    }
    for (const isa of await instructionSets()) {
      for (const make of [build(), build(50), gradients(), gradients(50)]) {
        const among = await runGraph(make, all, { isa });
        for (const [name, x] of Object.entries(await runGraph(make, alone, { isa, threads: 1 }))) {
          const width = x.length / 140;
          expect(sameBits(x, among[name]!.slice(13 * width, 153 * width)), name).toBe(true);
        }
      }
    }
  });

  test("lets no later token reach an earlier one, not even NaN", async () => {
    const inputs = documents(4, 2, 16, [90]);
    const spoil = (x: TestTensor) => ({ ...x, data: Array.from(x.data, (value, i) => (i >= 50 * x.shape[1]! * 16 ? Number.NaN : value)) });
    for (const isa of await instructionSets()) {
      const { o } = await runGraph(build(), inputs, { isa });
      const { o: spoilt } = await runGraph(build(), { ...inputs, k: spoil(inputs.k!), v: spoil(inputs.v!) }, { isa });
      expect(sameBits(o!.slice(0, 50 * 64), spoilt!.slice(0, 50 * 64))).toBe(true);
      expect(spoilt!.slice(50 * 64).every(Number.isNaN)).toBe(true);
    }
  });

  test("lets no token before the window reach a later one, not even NaN", async () => {
    const inputs = documents(4, 2, 16, [90]);
    const spoil = (x: TestTensor) => ({ ...x, data: Array.from(x.data, (value, i) => (i < 40 * x.shape[1]! * 16 ? Number.NaN : value)) });
    for (const isa of await instructionSets()) {
      const { o } = await runGraph(build(20), inputs, { isa });
      const { o: spoilt } = await runGraph(build(20), { ...inputs, k: spoil(inputs.k!), v: spoil(inputs.v!) }, { isa });
      expect(sameBits(o!.slice(59 * 64), spoilt!.slice(59 * 64))).toBe(true);
      expect(spoilt!.slice(0, 59 * 64).every(Number.isNaN)).toBe(true);
    }
  });

  for (const [N, K, H, lengths, window] of [
    [1, 1, 1, [3], 0],
    [4, 2, 3, [3, 0, 1, 6], 0],
    [3, 1, 1, [36], 0],
    [2, 2, 1, [34], 5],
    [1, 1, 1, [262], 258],
  ] as const) {
    test(`has the gradient by finite differences: ${N} heads of ${H} on ${K}, documents of ${lengths.join(", ")}, window ${window}`, async () => {
      const { cu, ...floats } = documents(N, K, H, lengths, 1, 1);
      await checkGradientCase(({ q, k, v, cu }) => [attention(q!, k!, v!, cu!, { window }).o], { ...floats, cu: cu! });
    });
  }

  for (const [N, K, H, lengths, window] of [
    [4, 2, 64, [150, 33, 0, 20], 0],
    [8, 2, 128, [140], 0],
    [6, 2, 24, [300], 0],
    [6, 2, 24, [300, 140], 129],
    [60, 1, 4, [40], 0],
  ] as const) {
    test(`has float32 gradients near those in float64: ${N} heads of ${H} on ${K}, ${lengths.join(", ")}, window ${window}`, async () => {
      const inputs = documents(N, K, H, lengths);
      const all = { ...inputs, dout: testTensor(inputs.q!.shape, 9) };
      const exact = await runGraph(gradients(window), all, { dtype: "float64", threads: 1 });
      await checkCase({ inputs: all, build: gradients(window), expected: exact, tolerance: 1e-5 });
    });
  }

  test("refuses shapes that do not fit, naming them", () => {
    const graph = createGraph();
    const input = (name: string, ...shape: number[]) => graph.input(name, tensor("float32", shape));
    const cu = graph.input("cu", tensor("int32", [2]));
    const q = input("q", 5, 4, 16);
    expect(() => attention(q, input("k3", 5, 3, 16), input("v3", 5, 3, 16), cu)).toThrow(
      "key heads to divide the 4 query heads, received 3",
    );
    expect(() => attention(q, input("k8", 5, 2, 8), input("v8", 5, 2, 8), cu)).toThrow(
      "[attention] expected k of shape [5, 2, 16], received [5, 2, 8]",
    );
    expect(() => attention(q, input("k", 5, 2, 16), input("v", 4, 2, 16), cu)).toThrow("[attention] expected v of shape [5, 2, 16]");
  });

  test("refuses a window that is no number of tokens", () => {
    const graph = createGraph();
    const q = graph.input("q", tensor("float32", [5, 4, 16]));
    const cu = graph.input("cu", tensor("int32", [2]));
    for (const window of [Number.NaN, -5, 1.5])
      expect(() => attention(q, q, q, cu, { window })).toThrow(
        expect.objectContaining({
          code: "INVALID_ARGUMENT",
          message: `[attention] expected a window of a whole number of tokens ≥ 0, received ${window}`,
        }),
      );
  });

  test("refuses cu_seqlens that leave the rows", async () => {
    const inputs = documents(2, 1, 4, [3]);
    await expect(runGraph(build(), { ...inputs, cu: testIntegers(0, 4) })).rejects.toThrow("[attention]");
    await expect(runGraph(build(), { ...inputs, cu: testIntegers(0, 3, 2) })).rejects.toThrow("[attention]");
    await expect(runGraph(build(), { ...inputs, cu: testIntegers(1, 3) })).rejects.toThrow("[attention]");
  });

  test("counts the multiply-adds of the pairs that see each other", () => {
    const graph = createGraph();
    const [q, k, v] = [
      graph.input("q", tensor("float32", [40, 4, 8])),
      graph.input("k", tensor("float32", [40, 2, 8])),
      graph.input("v", tensor("float32", [40, 2, 8])),
    ];
    const { o } = attention(q, k, v, graph.input("cu", tensor("int32", [3])));
    graph.output("o", o);
    const pairs = (2 * (20 * 21)) / 2;
    expect(costOf(graph).operations.get("attention")?.flops).toBe(2 * 2 * pairs * 4 * 8);
    graph.output("dq", differentiate(sum(slice(o, { begin: 0, end: 8 })), [q])[0]!);
    expect(costOf(graph).operations.get("attention_grad")?.flops).toBe(5 * 2 * pairs * 4 * 8);
  });
});
