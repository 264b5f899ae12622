import { describe, expect, test } from "vitest";
import { vectorJacobian } from "../differentiate.js";
import { createGraph, type Value } from "../graph.js";
import type { InstructionSet } from "../native.js";
import { checkCase, checkGradientCase, instructionSets, sameBits, throughBfloat16 } from "../operation_cases.js";
import { runGraph, type TestTensor, testTensor } from "../testing.js";
import { type PanelType, tensor } from "../types.js";
import { encode } from "./encode.js";
import { linear } from "./linear.js";

/** x wᵀ + bias. */
function reference(x: ArrayLike<number>, w: ArrayLike<number>, bias: ArrayLike<number> | null, T: number, N: number, K: number): number[] {
  return Array.from({ length: T * N }, (_, i) => {
    const [t, n] = [Math.floor(i / N), i % N];
    let sum = bias?.[n] ?? 0;
    for (let k = 0; k < K; k++) sum += x[t * K + k]! * w[n * K + k]!;
    return sum;
  });
}
function transposed(x: ArrayLike<number>, rows: number, columns: number): number[] {
  return Array.from({ length: rows * columns }, (_, i) => x[(i % rows) * columns + Math.floor(i / rows)]!);
}

const sizes = [
  [0, 5, 3],
  [1, 1, 1],
  [1, 33, 7],
  [1, 357, 131],
  [2, 70, 37],
  [3, 64, 129],
  [13, 97, 66],
  [14, 33, 515],
  [25, 65, 300],
  [250, 70, 45],
  [4, 257, 130],
] as const;

describe("linear", () => {
  for (const [T, N, K] of sizes) {
    const [x, w, bias, dy] = [testTensor([T, K], 1), testTensor([N, K], 2), testTensor([N], 3), testTensor([T, N], 4)];
    // A sum of K products of numbers in (−1, 1), each step rounded to 24 bits.
    const tolerance = 1e-7 * Math.max(4, Math.max(N, K, T));
    test(`multiplies ${T} rows of ${K} by a weight of ${N} rows, and has its gradients`, async () => {
      await checkCase({
        inputs: { x, w, bias, dy },
        build: ({ x, w, bias, dy }) => {
          const y = linear(x!, w!, { bias: bias! });
          const [dx, dw, dbias] = vectorJacobian([y], [dy!], [x!, w!, bias!]);
          const packed = linear(x!, encode(w!, w!.type.dtype as PanelType), { bias: bias! });
          return { y, packed, without: linear(x!, w!), dx: dx!, dw: dw!, dbias: dbias! };
        },
        expected: {
          y: reference(x.data, w.data, bias.data, T, N, K),
          packed: reference(x.data, w.data, bias.data, T, N, K),
          without: reference(x.data, w.data, null, T, N, K),
          dx: reference(dy.data, transposed(w.data, N, K), null, T, K, N),
          dw: reference(transposed(dy.data, T, N), transposed(x.data, T, K), null, N, K, T),
          dbias: Array.from({ length: N }, (_, n) => Array.from({ length: T }, (_, t) => dy.data[t * N + n]!).reduce((a, b) => a + b, 0)),
        },
        tolerance,
      });
    });
    test(`rounds the operands of ${T} × ${N} × ${K} to bfloat16 where asked`, async () => {
      const [xr, wr, dyr] = [throughBfloat16(x.data), throughBfloat16(w.data), throughBfloat16(dy.data)];
      await checkCase({
        inputs: { x, w, dy },
        build: ({ x, w, dy }) => {
          const y = linear(x!, w!, { compute: "bfloat16" });
          const [dx, dw] = vectorJacobian([y], [dy!], [x!, w!]);
          return { y, packed: linear(x!, encode(w!, "bfloat16"), { compute: "bfloat16" }), dx: dx!, dw: dw! };
        },
        expected: {
          y: reference(xr, wr, null, T, N, K),
          packed: reference(xr, wr, null, T, N, K),
          dx: reference(dyr, transposed(wr, N, K), null, T, K, N),
          dw: reference(transposed(dyr, T, N), transposed(xr, T, K), null, N, K, T),
        },
        tolerance,
        float64: false,
      });
    });
    test(`gives ${T} × ${N} × ${K} the same bits from plain weights and from panels, of float32 and bfloat16, in both kinds of compute`, async () => {
      for (const isa of await instructionSets()) {
        for (const compute of ["float32", "bfloat16"] as const) {
          for (const dtype of ["float32", "bfloat16"] as const) {
            const stored: TestTensor = { ...w, dtype };
            const out = await runGraph(
              ({ x, w, dy }) => {
                const packed = encode(w!, dtype);
                const [plain, panels] = [linear(x!, w!, { compute }), linear(x!, packed, { compute })];
                const [dPlain, dPanels] = [vectorJacobian([plain], [dy!], [x!])[0]!, vectorJacobian([panels], [dy!], [x!])[0]!];
                return { plain, panels, dPlain, dPanels };
              },
              { x, w: stored, dy },
              { isa },
            );
            const rounded = compute === "bfloat16" || dtype === "bfloat16" ? throughBfloat16(w.data) : w.data;
            const expected = reference(compute === "bfloat16" ? throughBfloat16(x.data) : x.data, rounded, null, T, N, K);
            for (const [i, y] of Array.from(out.plain!).entries()) expect(Math.abs(y - expected[i]!)).toBeLessThan(tolerance);
            expect(sameBits(out.plain, out.panels)).toBe(true);
            expect(sameBits(out.dPlain, out.dPanels)).toBe(true);
          }
        }
      }
    });
  }

  test("gives a row the same bits alone and among any number of others", async () => {
    const [T, N, K] = [67, 390, 203];
    const [x, w] = [testTensor([T, K], 1), testTensor([N, K], 2)];
    for (const isa of await instructionSets()) {
      for (const compute of ["float32", "bfloat16"] as const) {
        const rows = (first: number, count: number): TestTensor => ({
          shape: [count, K],
          data: Array.from(x.data).slice(first * K, (first + count) * K),
        });
        const run = async (first: number, count: number) =>
          (await runGraph(({ x, w }) => ({ y: linear(x!, encode(w!, "bfloat16"), { compute }) }), { x: rows(first, count), w }, { isa }))
            .y as Float32Array;
        const all = await run(0, T);
        for (const [first, count] of [
          [0, 1],
          [66, 1],
          [5, 2],
          [20, 3],
          [63, 4],
          [10, 5],
          [7, 11],
          [3, 12],
          [1, 13],
          [12, 40],
        ] as const)
          expect(sameBits(await run(first, count), all.slice(first * N, (first + count) * N))).toBe(true);
      }
    }
  });

  test("agrees between the instruction sets within rounding", async () => {
    for (const [T, N, K] of [
      [20, 45, 333],
      [1, 70, 2051],
      [3, 33, 5],
      [7, 31, 270],
      [25, 100, 514],
    ] as const) {
      const [x, w] = [testTensor([T, K], 1), testTensor([N, K], 2)];
      for (const compute of ["float32", "bfloat16"] as const)
        for (const stored of ["float32", "bfloat16"] as const) {
          const run = (isa: InstructionSet) =>
            runGraph(({ x, w }) => ({ y: linear(x!, encode(w!, stored), { compute }) }), { x, w }, { isa }).then(({ y }) => y!);
          const sets = await instructionSets();
          const [first, ...others] = await Promise.all(sets.map(run));
          for (const other of others)
            for (const [i, y] of Array.from(other).entries()) expect(Math.abs(y - first![i]!)).toBeLessThan(2e-8 * K + 1e-5);
          // Products of bfloat16 are exact in float32, so a fused multiply-add rounds as the two apart do.
          if (compute === "bfloat16" && sets.includes("avx2")) expect(sameBits(others[sets.indexOf("avx2") - 1], first)).toBe(true);
        }
    }
  });

  test("lets a NaN through to its own row and column only", async () => {
    const x = testTensor([3, 5], 1);
    const data = Array.from(x.data, (value, i) => (i === 7 ? Number.NaN : value));
    const { y } = await runGraph(({ x, w }) => ({ y: linear(x!, w!) }), { x: { shape: [3, 5], data }, w: testTensor([4, 5], 2) });
    expect(Array.from(y!, Number.isNaN)).toEqual(Array.from({ length: 12 }, (_, i) => Math.floor(i / 4) === 1));
  });

  for (const [T, N, K] of [
    [1, 1, 1],
    [3, 5, 7],
    [13, 4, 6],
  ] as const) {
    test(`has the gradient of ${T} × ${N} × ${K} by finite differences`, async () => {
      await checkGradientCase(({ x, w, bias }) => [linear(x!, w!, { bias: bias! })], {
        x: testTensor([T, K], 1),
        w: testTensor([N, K], 2),
        bias: testTensor([N], 3),
      });
    });
  }

  test("rounds the operands of the gradients alone to bfloat16 where gradientCompute says so", async () => {
    const [x, w, dy] = [testTensor([5, 9], 1), testTensor([7, 9], 2), testTensor([5, 7], 3)];
    const run = (options: Parameters<typeof linear>[2]) =>
      runGraph(
        (values) => {
          const y = linear(values.x!, values.w!, options);
          const [dx, dw] = vectorJacobian([y], [values.dy!], [values.x!, values.w!]) as [Value, Value];
          return { y, dx, dw };
        },
        { x, w, dy },
      );
    const mixed = await run({ gradientCompute: "bfloat16" });
    const [float32, bfloat16] = [await run({}), await run({ compute: "bfloat16" })];
    expect(mixed).toEqual({ y: float32.y, dx: bfloat16.dx, dw: bfloat16.dw });
    expect(bfloat16).not.toEqual(float32);
  });

  test("refuses a weight or bias that does not fit", () => {
    const graph = createGraph();
    const x = graph.input("x", tensor("float32", [3, 8]));
    const w = graph.input("w", tensor("float32", [4, 9]));
    expect(() => linear(x, w)).toThrow("[linear] expected x of shape [3, 9], received [3, 8]");
    const bias = graph.input("bias", tensor("float32", [5]));
    expect(() => linear(graph.input("x9", tensor("float32", [3, 9])), w, { bias })).toThrow(
      "[linear] expected bias of shape [4], received [5]",
    );
  });
});
