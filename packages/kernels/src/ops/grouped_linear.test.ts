import { describe, expect, test } from "vitest";
import { vectorJacobian } from "../differentiate.js";
import { checkCase, checkGradientCase, instructionSets, sameBits, throughBfloat16 } from "../operation_cases.js";
import { runGraph, testIntegers, testTensor } from "../testing.js";
import { encode } from "./encode.js";
import { groupedLinear } from "./grouped_linear.js";
import { linear } from "./linear.js";

interface Sizes {
  readonly T: number;
  readonly N: number;
  readonly K: number;
  readonly offsets: readonly number[];
}

function reference(x: ArrayLike<number>, w: ArrayLike<number>, dy: ArrayLike<number>, { T, N, K, offsets }: Sizes) {
  const E = offsets.length - 2;
  const [y, dx, dw] = [new Array<number>(T * N).fill(0), new Array<number>(T * K).fill(0), new Array<number>(E * N * K).fill(0)];
  for (let e = 0; e < E; e++)
    for (let t = offsets[e]!; t < offsets[e + 1]!; t++)
      for (let n = 0; n < N; n++)
        for (let k = 0; k < K; k++) {
          const at = (e * N + n) * K + k;
          y[t * N + n]! += x[t * K + k]! * w[at]!;
          dx[t * K + k]! += dy[t * N + n]! * w[at]!;
          dw[at]! += dy[t * N + n]! * x[t * K + k]!;
        }
  return { y, dx, dw };
}

const cases: readonly (Sizes & { readonly what: string })[] = [
  { what: "groups of odd sizes with one empty and tokens that skip", T: 45, N: 70, K: 51, offsets: [0, 5, 5, 30, 41, 45] },
  { what: "nothing but tokens that skip", T: 9, N: 5, K: 3, offsets: [0, 0, 0, 9] },
  { what: "everything in the last group", T: 30, N: 33, K: 2, offsets: [0, 0, 0, 30, 30] },
  { what: "a row a group", T: 4, N: 34, K: 65, offsets: [0, 1, 2, 3, 4, 4] },
  { what: "no tokens", T: 0, N: 3, K: 4, offsets: [0, 0, 0, 0] },
  { what: "tasks that pack their own columns", T: 280, N: 321, K: 330, offsets: [0, 250, 251, 251, 264, 275, 278, 280] },
  { what: "one group of many rows", T: 300, N: 17, K: 19, offsets: [0, 290, 300] },
];

describe("grouped_linear", () => {
  for (const { what, ...sizes } of cases) {
    const { T, N, K, offsets } = sizes;
    const [x, w, dy] = [testTensor([T, K], 1), testTensor([offsets.length - 2, N, K], 2), testTensor([T, N], 3)];
    for (const compute of ["float32", "bfloat16"] as const) {
      test(`multiplies each group by its weight, and has its gradients: ${what}, ${compute}`, async () => {
        const round = (data: ArrayLike<number>) => (compute === "bfloat16" ? throughBfloat16(data) : data);
        await checkCase({
          inputs: { x, w, dy, offsets: testIntegers(...offsets) },
          build: ({ x, w, dy, offsets }) => {
            const y = groupedLinear(x!, w!, offsets!, { compute });
            const [dx, dw] = vectorJacobian([y], [dy!], [x!, w!]);
            return { y, dx: dx!, dw: dw! };
          },
          expected: reference(round(x.data), round(w.data), round(dy.data), sizes),
          tolerance: 3e-5,
          float64: compute === "float32",
        });
      });
    }
  }

  test("gives each group the bits of its own linear, from plain weights and from panels", async () => {
    const [N, K, offsets] = [41, 38, [0, 3, 16, 16, 55, 60]] as const;
    const [x, w, dy] = [testTensor([60, K], 1), testTensor([4, N, K], 2), testTensor([60, N], 3)];
    for (const isa of await instructionSets()) {
      for (const compute of ["float32", "bfloat16"] as const) {
        const grouped = await runGraph(
          ({ x, w, dy, offsets }) => {
            const [plain, panels] = [
              groupedLinear(x!, w!, offsets!, { compute }),
              groupedLinear(x!, encode(w!, "float32"), offsets!, { compute }),
            ];
            const [dx, dw] = vectorJacobian([plain], [dy!], [x!, w!]);
            return { plain, panels, dx: dx!, dw: dw! };
          },
          { x, w, dy, offsets: testIntegers(...offsets) },
          { isa },
        );
        expect(sameBits(grouped.plain, grouped.panels)).toBe(true);
        for (let e = 0; e < 4; e++) {
          const [begin, end] = [offsets[e]!, offsets[e + 1]!];
          const cut = (data: ArrayLike<number>, from: number, to: number) => Array.from(data).slice(from, to);
          const own = await runGraph(
            ({ x, w, dy }) => {
              const y = linear(x!, w!, { compute });
              const [dx, dw] = vectorJacobian([y], [dy!], [x!, w!]);
              return { y, dx: dx!, dw: dw! };
            },
            {
              x: { shape: [end - begin, K], data: cut(x.data, begin * K, end * K) },
              w: { shape: [N, K], data: cut(w.data, e * N * K, (e + 1) * N * K) },
              dy: { shape: [end - begin, N], data: cut(dy.data, begin * N, end * N) },
            },
            { isa },
          );
          expect(sameBits(own.y, (grouped.plain as Float32Array).slice(begin * N, end * N))).toBe(true);
          expect(sameBits(own.dx, (grouped.dx as Float32Array).slice(begin * K, end * K))).toBe(true);
          expect(sameBits(own.dw, (grouped.dw as Float32Array).slice(e * N * K, (e + 1) * N * K))).toBe(true);
        }
      }
    }
  });

  test("has the gradient by finite differences", async () => {
    await checkGradientCase(({ x, w, offsets }) => [groupedLinear(x!, w!, offsets!)], {
      x: testTensor([7, 4], 1),
      w: testTensor([3, 5, 4], 2),
      offsets: testIntegers(0, 2, 2, 6, 7),
    });
  });

  test("fails on offsets that do not ascend or leave the rows", async () => {
    for (const offsets of [
      [0, 3, 2, 5],
      [0, 2, 9, 9],
      [-1, 2, 5, 5],
    ]) {
      const run = runGraph(({ x, w, offsets }) => ({ y: groupedLinear(x!, w!, offsets!) }), {
        x: testTensor([5, 3], 1),
        w: testTensor([2, 4, 3], 2),
        offsets: testIntegers(...offsets),
      });
      await expect(run).rejects.toThrow("[grouped_linear] expected offsets to ascend from 0 to at most 5");
    }
  });
});
