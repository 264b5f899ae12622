import { describe, expect, test } from "vitest";
import { createGraph } from "../graph.js";
import { checkCase, checkGradientCase } from "../operation_cases.js";
import { type TestTensor, testTensor } from "../testing.js";
import { tensor } from "../types.js";
import { ccaQk } from "./cca_qk.js";

interface Options {
  readonly queryHeads: number;
  readonly clampTemp?: boolean;
  readonly eps?: number;
}

function reference(z: TestTensor, conv: TestTensor, temp: ArrayLike<number>, { queryHeads: N, clampTemp, eps = 2 ** -23 }: Options) {
  const [T, C] = z.shape as [number, number];
  const K = temp.length;
  const H = C / (N + K);
  const q: number[] = [];
  const k: number[] = [];
  for (let t = 0; t < T; t++) {
    const head = (x: TestTensor, n: number) => Array.from({ length: H }, (_, h) => x.data[t * C + n * H + h]!);
    const mean = Array.from({ length: N }, (_, n) => head(z, n).map((v, h) => (v + head(z, N + Math.floor(n / (N / K)))[h]!) / 2));
    const unit = (x: number[], factor: number) => {
      const norm = Math.max(Math.sqrt(x.reduce((sum, v) => sum + v * v, 0)), eps);
      return x.map((v) => (v * Math.sqrt(H) * factor) / norm);
    };
    for (let n = 0; n < N; n++)
      q.push(
        ...unit(
          head(conv, n).map((v, h) => v + mean[n]![h]!),
          1,
        ),
      );
    for (let j = 0; j < K; j++) {
      const group = mean.slice((j * N) / K, ((j + 1) * N) / K);
      const factor = clampTemp ? Math.exp(Math.min(Math.max(temp[j]!, 1e-7), 2)) : temp[j]!;
      k.push(
        ...unit(
          head(conv, N + j).map((v, h) => v + group.reduce((sum, m) => sum + m[h]!, 0) / group.length),
          factor,
        ),
      );
    }
  }
  return { q, k };
}

describe("cca_qk", () => {
  for (const [T, N, K, H, options] of [
    [0, 2, 1, 4, {}],
    [1, 8, 2, 16, {}],
    [5, 4, 2, 7, {}],
    [70, 6, 3, 17, { clampTemp: true }],
    [3, 1, 1, 1, { eps: 10 }],
  ] as const) {
    test(`mixes, normalises and scales ${T} tokens of ${N}+${K} heads of ${H} ${JSON.stringify(options)}`, async () => {
      const all = { queryHeads: N, ...options };
      const C = (N + K) * H;
      const [z, conv, temp] = [testTensor([T, C], 1), testTensor([T, C], 2), testTensor([K], 3, 3)];
      await checkCase({
        inputs: { z, conv, temp },
        build: ({ z, conv, temp }) => ({ ...ccaQk(z!, conv!, temp!, all) }),
        expected: reference(z, conv, temp.data, all),
        tolerance: 5e-6,
      });
    });
  }
  test("gives zeros, not NaN, for a head of zeros", async () => {
    const [z, conv] = [
      { shape: [1, 6], data: new Array(6).fill(0) },
      { shape: [1, 6], data: new Array(6).fill(0) },
    ];
    await checkCase({
      inputs: { z, conv, temp: { shape: [1], data: [2] } },
      build: ({ z, conv, temp }) => ({ ...ccaQk(z!, conv!, temp!, { queryHeads: 2 }) }),
      expected: { q: [0, 0, 0, 0], k: [0, 0] },
    });
  });
  for (const [T, N, K, H, options] of [
    [3, 4, 2, 3, {}],
    [2, 2, 1, 5, { clampTemp: true }],
    [3, 2, 2, 3, { eps: 50 }],
    [40, 1, 1, 2, {}],
  ] as const) {
    test(`has the gradient of ${T} tokens of ${N}+${K} heads of ${H} ${JSON.stringify(options)} by finite differences`, async () => {
      const C = (N + K) * H;
      const temp = { shape: [K], data: [0.7, 1.3].slice(0, K) };
      await checkGradientCase(
        ({ z, conv, temp }) => {
          const { q, k } = ccaQk(z!, conv!, temp!, { queryHeads: N, ...options });
          return [q, k];
        },
        { z: testTensor([T, C], 5, 2), conv: testTensor([T, C], 6, 2), temp },
      );
    });
  }
  test("has the gradient when only the queries are used", async () => {
    await checkGradientCase(({ z, conv, temp }) => [ccaQk(z!, conv!, temp!, { queryHeads: 2 }).q], {
      z: testTensor([2, 9], 1),
      conv: testTensor([2, 9], 2),
      temp: testTensor([1], 3),
    });
  });
  test("refuses heads that do not fit the channels", () => {
    const graph = createGraph();
    const input = (name: string, shape: number[]) => graph.input(name, tensor("float32", shape));
    expect(() => ccaQk(input("z", [2, 7]), input("conv", [2, 7]), input("temp", [1]), { queryHeads: 2 })).toThrow(
      "[cca_qk] 2 query heads, 1 key heads and 7 channels do not fit together",
    );
  });
});
