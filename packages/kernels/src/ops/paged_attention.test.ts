import { describe, expect, test } from "vitest";
import { openDevice } from "../device.js";
import { createGraph, type Value } from "../graph.js";
import type { InstructionSet } from "../native.js";
import { instructionSets, sameBits, throughBfloat16 } from "../operation_cases.js";
import type { TensorData } from "../store.js";
import { runGraph, type TestTensor, testIntegers, testNumbers, testTensor, toArray } from "../testing.js";
import { type DType, maxBytes, maxElements, size, tensor } from "../types.js";
import { attention } from "./attention.js";
import { kvAppend, kvPages, pagedAttention } from "./paged_attention.js";

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
 * The same through pages that start as NaN (of int8, with steps that are NaN), taken from both ends in turn, step after step: `chunks` gives the number of tokens each sequence
 * takes in a step, the last one again and again.
 */
async function generated(
  shape: Shape,
  chunks: readonly number[],
  { pages: pageType = "float32", dtype = "float32", ...options }: Options = {},
  data: Record<"q" | "k" | "v", TestTensor> = sequences(shape),
): Promise<TensorData> {
  const { N, K, H, lengths, window = 0 } = shape;
  const S = lengths.length;
  const M = Math.max(1, ...lengths.map((length) => Math.ceil(length / 32)));
  const P = S * M + 2;
  const total = lengths.reduce((a, b) => a + b, 0);
  await using device = await openDevice("cpu", { threads: 2, guard: true, ...options });
  await using store = device.createStore();
  const types = kvPages(pageType, P, K, H);
  const empty = toArray(pageType, new Array<number>(maxElements(types.keys)).fill(pageType === "int8" ? -1 : Number.NaN));
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

/** Rows of `length` numbers as they are in int8 pages. */
function throughInt8(data: ArrayLike<number>, length: number): Float32Array {
  const rounded = new Float32Array(data.length);
  for (let row = 0; row < data.length; row += length) {
    const numbers = Array.from({ length }, (_, i) => data[row + i]!);
    const step = Math.max(...numbers.map(Math.abs)) / 127;
    numbers.forEach((x, i) => {
      rounded[row + i] = Math.round(x / step) * step;
    });
  }
  return rounded;
}

function largestDifference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  return Array.from(a).reduce((worst, x, i) => Math.max(worst, Math.abs(x - b[i]!)), 0);
}

describe("paged_attention", () => {
  for (const shape of [
    { N: 4, K: 2, H: 16, lengths: [1, 31, 0, 32, 33, 100] },
    { N: 8, K: 2, H: 128, lengths: [70] },
    { N: 6, K: 2, H: 24, lengths: [65, 40], window: 17 },
    { N: 4, K: 2, H: 64, lengths: [97, 64], window: 32 },
    { N: 10, K: 2, H: 20, lengths: [45, 3] },
    { N: 9, K: 9, H: 16, lengths: [40, 5] },
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

  for (const [pages, tolerance] of [
    ["bfloat16", 0.01],
    ["int8", 0.02],
  ] as const) {
    for (const shape of [
      { N: 8, K: 2, H: 64, lengths: [70, 100, 5] },
      { N: 6, K: 2, H: 24, lengths: [65, 1, 0, 40], window: 17 },
      { N: 8, K: 2, H: 128, lengths: [33] },
      { N: 4, K: 1, H: 20, lengths: [1100, 530], window: 600 },
      { N: 9, K: 9, H: 24, lengths: [40, 5] },
    ] satisfies Shape[]) {
      test(`gives ${pages} pages the same bits in any chunks, close to attention: ${JSON.stringify(shape)}`, async () => {
        const data = sequences(shape);
        const round = (x: TestTensor) => ({ ...x, data: pages === "int8" ? throughInt8(x.data, shape.H) : throughBfloat16(x.data) });
        const inputs = { q: data.q, k: round(data.k), v: round(data.v), cu: testIntegers(...starts(shape.lengths)) };
        const build = ({ q, k, v, cu }: Record<string, Value>) => ({ o: attention(q!, k!, v!, cu!, { window: shape.window ?? 0 }).o });
        const { o: expected } = await runGraph(build, inputs);
        for (const isa of await instructionSets()) {
          const whole = await generated(shape, everything, { isa, pages });
          expect(largestDifference(whole, expected!)).toBeLessThan(tolerance);
          for (const [chunks, threads] of [
            [[1020, 1, 1, 5, 1, 40, 20, 1], 1],
            [[1000, 1, 3, 16], 2],
            [[1000, 17, 2, 1], 7],
            [[40, 3], 3],
          ] as const)
            expect(sameBits(await generated(shape, chunks, { isa, pages, threads }), whole), `${isa}, chunks ${chunks}`).toBe(true);
        }
      });
    }
  }

  test("lets what is not finite show in int8 pages", async () => {
    const shape = { N: 2, K: 1, H: 8, lengths: [3] };
    const { q, k, v } = sequences(shape);
    const broken = (x: TestTensor, value: number) => ({ ...x, data: Float32Array.from(x.data, (n, i) => (i === 9 ? value : n)) });
    for (const data of [
      { q, k: broken(k, Number.NaN), v },
      { q, k, v: broken(v, Number.POSITIVE_INFINITY) },
      { q: broken(q, Number.NaN), k, v },
    ]) {
      const o = await generated(shape, everything, { pages: "int8" }, data);
      expect([...o].some(Number.isNaN)).toBe(true);
    }
  });

  test("computes in float64 over float64 pages", async () => {
    const shape = { N: 4, K: 2, H: 12, lengths: [40, 20] };
    expect(sameBits(await generated(shape, [9], { dtype: "float64", pages: "float64" }), await whole(shape, { dtype: "float64" }))).toBe(
      true,
    );
  });

  const paged = (inputs: Record<string, TestTensor>, window = 40) =>
    runGraph(
      ({ q, keys, values, cu, cached, table }) => ({ o: pagedAttention(q!, keys!, values!, cu!, cached!, table!, { window }) }),
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
  test("refuses a window that is no number of tokens", async () => {
    for (const window of [Number.NaN, -5, 1.5])
      await expect(paged(step(31, 0, 1), window)).rejects.toMatchObject({
        code: "INVALID_ARGUMENT",
        message: `[paged_attention] expected a window of a whole number of tokens ≥ 0, received ${window}`,
      });
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
  test("appends bfloat16 keys and values in pairs, int8 ones in fours with the step of each", async () => {
    const tokens = testNumbers(16, 5);
    for (const [dtype, unit] of [
      ["bfloat16", 2],
      ["int8", 4],
    ] as const) {
      const { keys, values } = kvPages(dtype, 1, 1, 8);
      const { k, v } = await runGraph(
        ({ k, x, v, cu, cached, table }) => {
          const pages = kvAppend(k!, v!, x!, x!, cu!, cached!, table!);
          return { k: pages.keys, v: pages.values };
        },
        {
          k: { ...testTensor(keys.shape as number[], 1, 0), dtype },
          v: { ...testTensor(values.shape as number[], 1, 0), dtype },
          x: { shape: [2, 1, 8], data: tokens },
          cu: testIntegers(0, 2),
          cached: testIntegers(5),
          table: { ...testIntegers(0), shape: [1, 1] },
        },
      );
      for (const t of [0, 1]) {
        const row = Float32Array.from(tokens.slice(8 * t, 8 * t + 8));
        const slot = 5 + t;
        const stepOf = (pages: TensorData) => new Float32Array(pages.buffer, 32 * 8)[slot]!;
        const stored = dtype === "int8" ? row.map((x) => Math.round(x / stepOf(k!))) : toArray("bfloat16", row);
        if (dtype === "int8") {
          expect(stepOf(k!)).toBe(Math.fround(Math.max(...row.map(Math.abs)) / 127));
          expect(stepOf(v!)).toBe(stepOf(k!));
        }
        for (let h = 0; h < 8; h++) {
          const keyAt = Math.floor(h / unit) * unit * 32 + slot * unit + (h % unit);
          const valueAt = Math.floor(slot / unit) * unit * 8 + h * unit + (slot % unit);
          expect(dtype === "int8" ? new Uint8Array(k!.buffer)[keyAt]! - 128 : k![keyAt]).toBe(stored[h]);
          expect(v![valueAt]).toBe(stored[h]);
        }
      }
    }
  });
  test("appends in place to the pages of a store, though attention reads them in the same step", async () => {
    await using device = await openDevice("null");
    await using store = device.createStore();
    const types = kvPages("float32", 64, 1, 4);
    const graph = createGraph();
    const [cu, cached] = [graph.input("cu", tensor("int32", [2])), graph.input("cached", tensor("int32", [1]))];
    const [table, x] = [graph.input("table", tensor("int32", [1, 64])), graph.input("x", tensor("float32", [1, 1, 4]))];
    store.allocate("k", types.keys);
    store.allocate("v", types.values);
    const { keys, values } = kvAppend(graph.read("k", types.keys), graph.read("v", types.values), x, x, cu, cached, table);
    graph.assign("k", keys);
    graph.assign("v", values);
    graph.output("o", pagedAttention(x, keys, values, cu, cached, table));
    await using executable = device.compile(graph, store);
    expect(executable.arenaBytes).toBeLessThan(maxBytes(types.keys));
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
    const { keys, values } = kvPages("int8", 7, 2, 18);
    expect(() =>
      pagedAttention(
        input("q18", 3, 4, 18),
        graph.input("k8", keys),
        graph.input("v8", values),
        integers("c", 2),
        integers("n", 1),
        integers("t", 1, 5),
      ),
    ).toThrow("a head size that 4 divides for int8 pages, received 18");
  });
});
