import { describe, expect, test } from "vitest";
import { openDevice } from "../device.js";
import { createGraph } from "../graph.js";
import type { InstructionSet } from "../native.js";
import { instructionSets, sameBits, throughBfloat16 } from "../operation_cases.js";
import type { TensorData } from "../store.js";
import { runGraph, type TestTensor, testIntegers, testTensor, toArray } from "../testing.js";
import { type DType, size, tensor } from "../types.js";
import { attention } from "./attention.js";
import { kvAppend, pagedAttention } from "./paged_attention.js";

interface Shape {
  readonly N: number;
  readonly K: number;
  readonly H: number;
  readonly lengths: readonly number[];
  readonly window?: number;
}

type Options = { isa?: InstructionSet; threads?: number; pages?: DType; dtype?: "float32" | "float64" };

function sequences({ N, K, H, lengths }: Shape): Record<"q" | "k" | "v", TestTensor> {
  const T = lengths.reduce((a, b) => a + b, 0);
  return { q: testTensor([T, N, H], 1, 2), k: testTensor([T, K, H], 2, 2), v: testTensor([T, K, H], 3) };
}

function starts(lengths: readonly number[]): number[] {
  const cu = [0];
  for (const length of lengths) cu.push(cu.at(-1)! + length);
  return cu;
}

/** What training computes. */
async function whole(shape: Shape, { isa, dtype = "float32" }: Options = {}): Promise<TensorData> {
  const inputs = { ...sequences(shape), cu: testIntegers(...starts(shape.lengths)) };
  const { o } = await runGraph(({ q, k, v, cu }) => ({ o: attention(q!, k!, v!, cu!, { window: shape.window ?? 0 }).o }), inputs, {
    ...(isa ? { isa } : {}),
    dtype,
  });
  return o!;
}

/**
 * The same through pages that start as NaN, taken from both ends in turn, step after step: `chunks` gives the number of tokens each sequence
 * takes in a step, the last one again and again.
 */
async function generated(
  shape: Shape,
  chunks: readonly number[],
  { pages: pageType = "float32", dtype = "float32", ...options }: Options = {},
): Promise<TensorData> {
  const { N, K, H, lengths, window = 0 } = shape;
  const S = lengths.length;
  const M = Math.max(1, ...lengths.map((length) => Math.ceil(length / 32)));
  const P = S * M + 2;
  const data = sequences(shape);
  const total = lengths.reduce((a, b) => a + b, 0);
  await using device = await openDevice("cpu", { threads: 2, guard: true, ...options });
  await using store = device.createStore();
  const types = { keys: tensor(pageType, [P, K, H, 32]), values: tensor(pageType, [P, K, 32, H]) };
  const empty = toArray(pageType, new Array<number>(P * K * H * 32).fill(Number.NaN));
  for (const [name, type] of Object.entries(types)) await store.write(name, type, empty);

  const graph = createGraph();
  const T = size("T", total);
  const rows = (name: string, heads: number) => graph.input(name, tensor(dtype, [T, heads, H]));
  const integers = (name: string, shape: number[]) => graph.input(name, tensor("int32", shape));
  const [cu, cached, table] = [integers("cu", [S + 1]), integers("cached", [S]), integers("table", [S, M])];
  const { keys, values } = kvAppend(
    graph.read("keys", types.keys),
    graph.read("values", types.values),
    rows("k", K),
    rows("v", K),
    cu,
    cached,
    table,
  );
  graph.assign("keys", keys);
  graph.assign("values", values);
  graph.output("o", pagedAttention(rows("q", N), keys, values, cu, cached, table, { window }));
  await using executable = device.compile(graph, store);

  const o = dtype === "float64" ? new Float64Array(total * N * H) : new Float32Array(total * N * H);
  const first = starts(lengths);
  const done = lengths.map(() => 0);
  for (let step = 0; done.some((n, s) => n < lengths[s]!); step++) {
    const take = lengths.map((length, s) => Math.min(length - done[s]!, chunks[Math.min(step, chunks.length - 1)]!));
    const gather = (x: TestTensor) => {
      const width = x.shape[1]! * H;
      return toArray(
        dtype,
        take.flatMap((n, s) => Array.from({ length: n * width }, (_, i) => x.data[(first[s]! + done[s]!) * width + i]!)),
      );
    };
    const results = await executable.run({
      inputs: {
        q: gather(data.q),
        k: gather(data.k),
        v: gather(data.v),
        cu: Int32Array.from(starts(take)),
        cached: Int32Array.from(done),
        table: Int32Array.from({ length: S * M }, (_, i) => (i % 2 === 0 ? P - 1 - i / 2 : (i - 1) / 2)),
      },
      sizes: { T: take.reduce((a, b) => a + b, 0) },
    });
    let row = 0;
    take.forEach((n, s) => {
      o.set(results.o!.subarray(row * N * H, (row + n) * N * H), (first[s]! + done[s]!) * N * H);
      row += n;
      done[s] = done[s]! + n;
    });
  }
  return o;
}

const everything = [100000];

describe("paged_attention", () => {
  for (const shape of [
    { N: 4, K: 2, H: 16, lengths: [1, 31, 0, 32, 33, 100] },
    { N: 8, K: 2, H: 128, lengths: [70] },
    { N: 6, K: 2, H: 24, lengths: [65, 40], window: 17 },
    { N: 4, K: 2, H: 64, lengths: [97, 64], window: 32 },
    { N: 10, K: 2, H: 20, lengths: [45, 3] },
  ] satisfies Shape[]) {
    test(`decodes and prefills in any chunks with the bits of attention: ${JSON.stringify(shape)}`, async () => {
      for (const isa of await instructionSets()) {
        const expected = await whole(shape, { isa });
        for (const [chunks, threads] of [
          [everything, 2],
          [everything, 7],
          [[1], 1],
          [[1], 3],
          [[7, 1, 50], 2],
          [[33, 2], 1],
        ] as const) {
          expect(sameBits(await generated(shape, chunks, { isa, threads }), expected), `${isa}, chunks ${chunks}, ${threads} threads`).toBe(
            true,
          );
        }
      }
    });
  }

  for (const window of [0, 600]) {
    test(`joins spans of 512 keys with the same bits whoever computes them, ${window > 0 ? `window ${window}` : "no window"}`, async () => {
      const shape = { N: 4, K: 1, H: 16, lengths: [1100, 530], window };
      for (const isa of await instructionSets()) {
        const expected = await whole(shape, { isa });
        for (const threads of [1, 2, 7]) {
          expect(
            sameBits(await generated(shape, [1020, 1, 1, 5, 1, 40, 20, 1], { isa, threads }), expected),
            `${isa}, ${threads} threads`,
          ).toBe(true);
        }
      }
    });
  }

  test("gives bfloat16 pages the same bits in any chunks, and those of attention over rounded keys and values", async () => {
    const shape = { N: 8, K: 2, H: 64, lengths: [70, 100, 5] };
    const data = sequences(shape);
    const round = (x: TestTensor) => ({ ...x, data: throughBfloat16(x.data) });
    const inputs = { q: data.q, k: round(data.k), v: round(data.v), cu: testIntegers(...starts(shape.lengths)) };
    for (const isa of await instructionSets()) {
      const { o } = await runGraph(({ q, k, v, cu }) => ({ o: attention(q!, k!, v!, cu!).o }), inputs, { isa });
      for (const chunks of [everything, [1], [40, 3]]) {
        expect(sameBits(await generated(shape, chunks, { isa, pages: "bfloat16" }), o), `${isa}, chunks ${chunks}`).toBe(true);
      }
    }
  });

  test("computes in float64 over float64 pages", async () => {
    const shape = { N: 4, K: 2, H: 12, lengths: [40, 20] };
    expect(sameBits(await generated(shape, [9], { dtype: "float64", pages: "float64" }), await whole(shape, { dtype: "float64" }))).toBe(
      true,
    );
  });

  const paged = (inputs: Record<string, TestTensor>) =>
    runGraph(
      ({ q, keys, values, cu, cached, table }) => ({ o: pagedAttention(q!, keys!, values!, cu!, cached!, table!, { window: 40 }) }),
      inputs,
    );
  const step = (cached: number, ...table: number[]) => ({
    q: testTensor([2, 2, 4], 1),
    keys: testTensor([3, 1, 4, 32], 2),
    values: testTensor([3, 1, 32, 4], 3),
    cu: testIntegers(0, 2),
    cached: testIntegers(cached),
    table: { ...testIntegers(...table), shape: [1, table.length] },
  });

  test("refuses pages that do not exist, negative lengths and sequences longer than their page table", async () => {
    await expect(paged(step(31, 0, 3))).rejects.toThrow("[paged_attention] sequence 0: page_table names page 3, there are 3");
    await expect(paged(step(31, 0, -1))).rejects.toThrow("page_table names page -1");
    await expect(paged(step(-1, 0))).rejects.toThrow("[paged_attention] sequence 0: -1 cached and 2 new tokens");
    await expect(paged(step(31, 0))).rejects.toThrow("31 cached and 2 new tokens do not fit its page_table of 1 pages of 32 tokens");
  });
  test("does not look at pages it does not need: those before the window and after the last token", async () => {
    const { o } = await paged(step(80, 0, 1, 2));
    expect(sameBits((await paged(step(80, -1, 1, 2, 99))).o, o)).toBe(true);
  });

  const append = ({ inputs, T = 2 }: { inputs: Record<string, TestTensor>; T?: number }) =>
    runGraph(
      ({ keys, values, k, v, cu, cached, table }) => {
        const result = kvAppend(keys!, values!, k!, v!, cu!, cached!, table!);
        return { keys: result.keys, values: result.values };
      },
      { k: testTensor([T, 1, 4], 5), v: testTensor([T, 1, 4], 6), ...inputs },
    );
  test("appends keys as columns and values as rows, and leaves every other place as it was", async () => {
    const { q: _, ...inputs } = step(31, 2, 0);
    const { keys, values } = await append({ inputs });
    const [k, v] = [testTensor([2, 1, 4], 5).data, testTensor([2, 1, 4], 6).data];
    const expectedKeys = Float32Array.from(inputs.keys.data);
    const expectedValues = Float32Array.from(inputs.values.data);
    for (let h = 0; h < 4; h++) {
      expectedKeys[(2 * 4 + h) * 32 + 31] = k[h]!;
      expectedKeys[h * 32] = k[4 + h]!;
      expectedValues[(2 * 32 + 31) * 4 + h] = v[h]!;
      expectedValues[h] = v[4 + h]!;
    }
    expect(keys).toEqual(expectedKeys);
    expect(values).toEqual(expectedValues);
  });
  test("refuses to append outside the pages", async () => {
    const { q: _, ...inputs } = step(31, 2, 3);
    await expect(append({ inputs })).rejects.toThrow("[kv_append] sequence 0: page_table names page 3, there are 3");
    await expect(append({ inputs: { ...inputs, cached: testIntegers(63) } })).rejects.toThrow(
      "[kv_append] sequence 0: 63 cached and 2 new tokens",
    );
  });

  test("refuses pages of another shape", () => {
    const graph = createGraph();
    const input = (name: string, ...shape: number[]) => graph.input(name, tensor("float32", shape));
    const integers = (name: string, ...shape: number[]) => graph.input(name, tensor("int32", shape));
    const call = (keys: ReturnType<typeof input>, values: ReturnType<typeof input>, cached = integers("cached", 1)) =>
      pagedAttention(input("q", 3, 4, 16), keys, values, integers("cu", 2), cached, integers("table", 1, 5));
    expect(() => call(input("k16", 7, 2, 16, 16), input("v", 7, 2, 32, 16))).toThrow(
      "[paged_attention] expected k_pages of shape [7, 2, 16, 32]",
    );
    expect(() => call(input("k", 7, 2, 16, 32), input("v16", 7, 2, 16, 32))).toThrow(
      "[paged_attention] expected v_pages of shape [7, 2, 32, 16]",
    );
    expect(() => call(input("k", 7, 2, 16, 32), input("v", 7, 2, 32, 16), integers("two", 2))).toThrow(
      "[paged_attention] expected cached of shape [1]",
    );
    expect(() => call(input("k3", 7, 3, 16, 32), input("v3", 7, 3, 32, 16))).toThrow("key heads to divide the 4 query heads");
  });
});
