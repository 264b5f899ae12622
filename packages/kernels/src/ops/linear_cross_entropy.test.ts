import { describe, expect, test } from "vitest";
import { differentiate, vectorJacobian } from "../differentiate.js";
import { createGraph } from "../graph.js";
import { checkCase, checkGradientCase, instructionSets, sameBits, throughBfloat16 } from "../operation_cases.js";
import { runGraph, testIntegers, testTensor } from "../testing.js";
import { tensor } from "../types.js";
import { add } from "./add.js";
import { encode } from "./encode.js";
import { linear } from "./linear.js";
import { linearCrossEntropy, linearCrossEntropySum } from "./linear_cross_entropy.js";
import { multiply } from "./multiply.js";
import { sum } from "./sum.js";

/** Loss, log-sum-exp and gradients from all logits at once, in double precision. */
function reference(
  h: ArrayLike<number>,
  w: ArrayLike<number>,
  bias: ArrayLike<number> | null,
  labels: readonly number[],
  dloss: ArrayLike<number>,
  [T, V, D]: readonly [number, number, number],
) {
  const loss: number[] = [];
  const lse: number[] = [];
  const [dh, dw, dbias] = [new Array<number>(T * D).fill(0), new Array<number>(V * D).fill(0), new Array<number>(V).fill(0)];
  for (let t = 0; t < T; t++) {
    const logits = Array.from({ length: V }, (_, v) => {
      let x = bias?.[v] ?? 0;
      for (let d = 0; d < D; d++) x += h[t * D + d]! * w[v * D + d]!;
      return x;
    });
    const most = Math.max(...logits);
    const total = most + Math.log(logits.reduce((a, x) => a + Math.exp(x - most), 0));
    lse.push(total);
    loss.push(labels[t]! < 0 ? 0 : total - logits[labels[t]!]!);
    if (labels[t]! < 0) continue;
    logits.forEach((x, v) => {
      const dx = (Math.exp(x - total) - (v === labels[t] ? 1 : 0)) * dloss[t]!;
      dbias[v]! += dx;
      for (let d = 0; d < D; d++) {
        dh[t * D + d]! += dx * w[v * D + d]!;
        dw[v * D + d]! += dx * h[t * D + d]!;
      }
    });
  }
  return { loss, lse, dh, dw, dbias };
}

describe("linear_cross_entropy", () => {
  for (const [T, V, D] of [
    [0, 5, 3],
    [1, 1, 1],
    [3, 33, 7],
    [40, 301, 19],
    [17, 64, 130],
  ] as const) {
    const [h, w, bias, dloss] = [testTensor([T, D], 1, 2), testTensor([V, D], 2), testTensor([V], 3), testTensor([T], 4)];
    const labels = Array.from({ length: T }, (_, t) => (t % 5 === 3 ? -1 : (t * 7) % V));
    for (const withBias of [false, true]) {
      test(`has the loss of ${T} rows over ${V} classes ${withBias ? "with" : "without"} bias, and its gradients`, async () => {
        const { dbias, ...expected } = reference(h.data, w.data, withBias ? bias.data : null, labels, dloss.data, [T, V, D]);
        await checkCase({
          inputs: { h, w, bias, dloss, labels: testIntegers(...labels) },
          build: ({ h, w, bias, dloss, labels }) => {
            const { loss, lse } = linearCrossEntropy(h!, w!, labels!, { bias: withBias ? bias! : null });
            const gradients = vectorJacobian([loss], [dloss!], withBias ? [h!, w!, bias!] : [h!, w!]);
            return { loss, lse, dh: gradients[0]!, dw: gradients[1]!, ...(withBias ? { dbias: gradients[2]! } : {}) };
          },
          expected: withBias ? { ...expected, dbias } : expected,
          tolerance: 2e-5,
        });
      });
    }
    test(`rounds hidden states and weights of ${T} × ${V} × ${D} to bfloat16 where asked`, async () => {
      const { loss, lse, dh } = reference(throughBfloat16(h.data), throughBfloat16(w.data), null, labels, dloss.data, [T, V, D]);
      const inputs = { h, w, dloss, labels: testIntegers(...labels) };
      await checkCase({
        inputs,
        build: ({ h, w, labels }) => ({ ...linearCrossEntropy(h!, w!, labels!, { compute: "bfloat16" }) }),
        expected: { loss, lse },
        tolerance: 2e-5,
        float64: false,
      });
      // The gradient of the logits is rounded too.
      await checkCase({
        inputs,
        build: ({ h, w, dloss, labels }) => ({
          dh: vectorJacobian([linearCrossEntropy(h!, w!, labels!, { compute: "bfloat16" }).loss], [dloss!], [h!])[0]!,
        }),
        expected: { dh },
        tolerance: 2 ** -8,
        float64: false,
      });
    });
  }

  for (const [T, V, D] of [
    [0, 5, 3],
    [1, 1, 1],
    [40, 301, 19],
    [17, 64, 130],
  ] as const) {
    const [h, w, bias] = [testTensor([T, D], 1, 2), testTensor([V, D], 2), testTensor([V], 3)];
    const labels = Array.from({ length: T }, (_, t) => (t % 5 === 3 ? -1 : (t * 7) % V));
    const ones = new Array<number>(T).fill(1);
    for (const withBias of [false, true]) {
      test(`sums the loss of ${T} rows over ${V} classes ${withBias ? "with" : "without"} bias along with its gradients`, async () => {
        for (const compute of ["float32", "bfloat16"] as const) {
          const seen = compute === "bfloat16" ? throughBfloat16 : (data: ArrayLike<number>) => data;
          const { loss, dh, dw, dbias } = reference(seen(h.data), seen(w.data), withBias ? bias.data : null, labels, ones, [T, V, D]);
          const expected = { sum: [loss.reduce((a, b) => a + b, 0)], dh, dw, ...(withBias ? { dbias } : {}) };
          await checkCase({
            inputs: { h, w, bias, labels: testIntegers(...labels) },
            build: ({ h, w, bias, labels }) => {
              const total = linearCrossEntropySum(h!, w!, labels!, { bias: withBias ? bias! : null, compute });
              const gradients = differentiate(total, withBias ? [h!, w!, bias!] : [h!, w!]);
              return { sum: total, dh: gradients[0]!, dw: gradients[1]!, ...(withBias ? { dbias: gradients[2]! } : {}) };
            },
            expected,
            tolerance: compute === "bfloat16" ? 2 ** -7 : 2e-5,
            float64: compute === "float32",
          });
        }
      });
    }
  }

  // 256 rows a chunk of logits, 512 whose gradient is kept, 16320 classes whose weights get theirs at a time.
  test.each(["float32", "bfloat16"] as const)("adds up over chunks of rows and of classes in %s", async (compute) => {
    const [T, V, D] = [520, 16400, 2];
    const [h, w] = [testTensor([T, D], 1, 2), testTensor([V, D], 2)];
    const labels = Array.from({ length: T }, (_, t) => (t % 7 === 2 ? -1 : (t * 27) % V));
    const seen = compute === "bfloat16" ? throughBfloat16 : (data: ArrayLike<number>) => data;
    const { loss, dh, dw } = reference(seen(h.data), seen(w.data), null, labels, new Array<number>(T).fill(1), [T, V, D]);
    await checkCase({
      inputs: { h, w, labels: testIntegers(...labels) },
      build: ({ h, w, labels }) => {
        const total = linearCrossEntropySum(h!, w!, labels!, { compute });
        const [dh, dw] = differentiate(total, [h!, w!]);
        return { sum: total, dh: dh!, dw: dw! };
      },
      expected: { sum: [loss.reduce((a, b) => a + b, 0)], dh, dw },
      tolerance: compute === "bfloat16" ? 2 ** -7 : 2e-5,
      float64: false,
    });
  });

  test("gives the sum of the losses to the bit, and its gradient times that of the sum", async () => {
    const [h, w] = [testTensor([37, 24], 1, 2), testTensor([90, 24], 2)];
    const labels = testIntegers(...Array.from({ length: 37 }, (_, t) => (t % 6 === 1 ? -1 : t * 2)));
    for (const isa of await instructionSets()) {
      const out = await runGraph(
        ({ h, w, labels, seed }) => {
          const whole = linearCrossEntropySum(h!, w!, labels!);
          const parts = sum(linearCrossEntropy(h!, w!, labels!).loss);
          const [one, two] = [whole, parts].map((total) => vectorJacobian([total], [seed!], [h!])[0]!);
          return { whole, parts, one: one!, two: two! };
        },
        { h, w, labels, seed: { shape: [1], data: [0.5] } },
        { isa },
      );
      expect(sameBits(out.whole, out.parts)).toBe(true);
      for (const [i, value] of (out.one as Float32Array).entries()) expect(value).toBeCloseTo(out.two?.[i] as number, 5);
    }
  });

  test("gives the same bits from plain weights and from panels", async () => {
    const [h, w] = [testTensor([21, 30], 1), testTensor([75, 30], 2)];
    const labels = testIntegers(...Array.from({ length: 21 }, (_, t) => t * 3));
    for (const isa of await instructionSets()) {
      for (const dtype of ["float32", "bfloat16"] as const) {
        for (const compute of ["float32", "bfloat16"] as const) {
          const out = await runGraph(
            ({ h, w, labels }) => {
              const losses = [w!, encode(w!, dtype)].map((weight) => linearCrossEntropy(h!, weight, labels!, { compute }).loss);
              const [plain, panels] = losses.map((loss) => differentiate(sum(loss), [h!])[0]!);
              return { plainLoss: losses[0]!, panelsLoss: losses[1]!, plain: plain!, panels: panels! };
            },
            { h, w: { ...w, dtype }, labels },
            { isa },
          );
          expect(sameBits(out.plainLoss, out.panelsLoss)).toBe(true);
          expect(sameBits(out.plain, out.panels)).toBe(true);
        }
      }
    }
  });

  test.each(["int8", "int6", "int4"] as const)("takes weights in %s panels: the logits are those of linear", async (dtype) => {
    const [T, V, D] = [21, 75, 320];
    const labels = Array.from({ length: T }, (_, t) => (t % 5 === 3 ? -1 : t * 3));
    for (const isa of await instructionSets()) {
      const { logits, loss, lse } = (await runGraph(
        ({ h, w, bias, labels }) => {
          const packed = encode(w!, dtype);
          return { logits: linear(h!, packed, { bias: bias! }), ...linearCrossEntropy(h!, packed, labels!, { bias: bias! }) };
        },
        { h: testTensor([T, D], 1), w: testTensor([V, D], 2), bias: testTensor([V], 3), labels: testIntegers(...labels) },
        { isa },
      )) as Record<string, Float32Array>;
      labels.forEach((label, t) => {
        const x = logits!.subarray(t * V, (t + 1) * V);
        const expected = Math.log(x.reduce((sum, each) => sum + Math.exp(each), 0));
        expect(lse![t]).toBeCloseTo(expected, 4);
        expect(loss![t]).toBeCloseTo(label < 0 ? 0 : expected - x[label]!, 4);
      });
    }
  });

  test("refuses a gradient through quantised weights", () => {
    const graph = createGraph();
    const [h, labels] = [graph.input("h", tensor("float32", [2, 32])), graph.input("labels", tensor("int32", [2]))];
    const w = graph.read("w", tensor("int8", [5, 32], "panels"));
    expect(() => differentiate(sum(linearCrossEntropy(h, w, labels).loss), [h])).toThrow(/gradients need float weights/);
    expect(() => linearCrossEntropySum(h, w, labels)).toThrow(/gradients need float weights/);
  });

  test("gives a row the same bits in any chunk", async () => {
    const [T, V, D] = [290, 20_003, 2];
    const [h, w] = [testTensor([T, D], 1), testTensor([V, D], 2)];
    const labels = Array.from({ length: T }, (_, t) => (t * 2861) % V);
    const run = async (first: number, count: number) =>
      (
        await runGraph(({ h, w, labels }) => ({ ...linearCrossEntropy(h!, w!, labels!) }), {
          h: { shape: [count, D], data: Array.from(h.data).slice(first * D, (first + count) * D) },
          w,
          labels: testIntegers(...labels.slice(first, first + count)),
        })
      ).loss as Float32Array;
    const all = await run(0, T);
    expect(sameBits(await run(289, 1), all.slice(289))).toBe(true);
    expect(sameBits(await run(250, 20), all.slice(250, 270))).toBe(true);
  });

  test("stays finite where logits are far apart", async () => {
    const { loss } = await runGraph(({ h, w, labels }) => ({ ...linearCrossEntropy(h!, w!, labels!) }), {
      h: { shape: [2, 1], data: [1000, 1000] },
      w: { shape: [3, 1], data: [1, -1, 0] },
      labels: testIntegers(0, 1),
    });
    expect(Array.from(loss!)).toEqual([0, 2000]);
  });

  test("has the gradient by finite differences", async () => {
    await checkGradientCase(({ h, w, bias, labels }) => [linearCrossEntropy(h!, w!, labels!, { bias: bias! }).loss], {
      h: testTensor([5, 4], 1),
      w: testTensor([6, 4], 2),
      bias: testTensor([6], 3),
      labels: testIntegers(0, -1, 5, 2, 2),
    });
  });

  test("refuses a gradient through the log-sum-exp", async () => {
    const gradient = runGraph(
      ({ h, w, labels }) => {
        const { loss, lse } = linearCrossEntropy(h!, w!, labels!);
        return { dw: differentiate(sum(add(loss, multiply(lse, lse))), [w!])[0]! };
      },
      { h: testTensor([2, 3], 1), w: testTensor([4, 3], 2), labels: testIntegers(0, 1) },
    );
    await expect(gradient).rejects.toMatchObject({
      code: "UNSUPPORTED_OPERATION",
      message: "[linear_cross_entropy] has no gradient through lse; let the loss use its loss only",
    });
  });

  test("fails on a label outside the vocabulary", async () => {
    for (const label of [-2, 4]) {
      const run = runGraph(({ h, w, labels }) => ({ ...linearCrossEntropy(h!, w!, labels!) }), {
        h: testTensor([2, 3], 1),
        w: testTensor([4, 3], 2),
        labels: testIntegers(0, label),
      });
      await expect(run).rejects.toThrow(`received ${label} at row 1`);
    }
  });
});
