import { describe, expect, test } from "vitest";
import type { Value } from "../graph.js";
import { checkCase, instructionSets, sameBits } from "../operation_cases.js";
import { runGraph, testIntegers, testNumbers, testTensor } from "../testing.js";
import { encode } from "./encode.js";
import { experts, expertsOperation } from "./experts.js";

const silu = (g: number) => g / (1 + Math.exp(-g));

/** In double precision. */
function reference(
  x: number[],
  index: number[],
  prob: number[],
  gateUp: number[],
  down: number[],
  D: number,
  F: number,
  E: number,
): number[] {
  return index.flatMap((e, t) => {
    const dot = (w: number[], row: number, v: number[]) => v.reduce((sum, a, k) => sum + a * w[row * v.length + k]!, 0);
    const row = x.slice(t * D, (t + 1) * D);
    if (e === E) return row.map(() => 0);
    const inner = Array.from({ length: F }, (_, f) => silu(dot(gateUp, (e * 2 + 0) * F + f, row)) * dot(gateUp, (e * 2 + 1) * F + f, row));
    return row.map((_, d) => prob[t]! * dot(down, e * D + d, inner));
  });
}

const [E, T, D] = [4, 17, 45];
const index = [2, 0, 4, 0, 2, 2, 2, 4, 0, 2, 2, 2, 2, 3, 2, 2, 2]; // expert 1 has no token, expert 3 one, two tokens skip, expert 2 has a strip

describe.each([32, 40, 352])("experts of %i inner columns", (F) => {
  const inputs = {
    x: testTensor([T, D], 1),
    prob: { shape: [T], data: testNumbers(T, 2).map(Math.abs) },
    gateUp: testTensor([E, 2 * F, D], 3, 0.5),
    down: testTensor([E, D, F], 4, 0.5),
    index: testIntegers(...index),
  };

  test("send each token through its own and give zeros for those that skip", async () => {
    const [x, prob, gateUp, down] = [inputs.x, inputs.prob, inputs.gateUp, inputs.down].map(({ data }) => [...(data as number[])]);
    await checkCase({
      inputs,
      build: ({ x, index, prob, gateUp, down }) => ({ y: experts(x!, index!, prob!, gateUp!, down!) }),
      expected: { y: reference(x!, index, prob!, gateUp!, down!, D, F, E) },
      tolerance: 1e-5,
    });
  });

  test.each(["plain", "float32", "bfloat16", "int8", "int6", "int4"] as const)(
    "give the bits of their decomposition with %s weights",
    async (type) => {
      const stored = (w: Value) => (type === "plain" ? w : encode(w, type));
      for (const isa of await instructionSets()) {
        for (const threads of [1, 3]) {
          const { y, parts } = await runGraph(
            ({ x, index, prob, gateUp, down }) => {
              const [g, d] = [stored(gateUp!), stored(down!)];
              const compute = type === "bfloat16" ? "bfloat16" : "float32";
              const [parts] = expertsOperation.decompose!([x!, index!, prob!, g, d], { compute: compute === "bfloat16" ? 1 : 0 });
              return { y: experts(x!, index!, prob!, g, d, { compute }), parts: parts! };
            },
            inputs,
            { isa, threads },
          );
          expect(sameBits(y, parts), `${isa}, ${threads} threads`).toBe(true);
          expect((y as Float32Array).some((v) => v !== 0)).toBe(true);
        }
      }
    },
  );
});

test("gives the bits of their decomposition where the result is larger than a cache", async () => {
  const [E, T, D, F] = [2, 261, 1024, 32];
  const { y, parts } = await runGraph(
    ({ x, index, prob, gateUp, down }) => {
      const [g, d] = [encode(gateUp!, "int8"), encode(down!, "int8")];
      const [parts] = expertsOperation.decompose!([x!, index!, prob!, g, d], { compute: 0 });
      return { y: experts(x!, index!, prob!, g, d), parts: parts! };
    },
    {
      x: testTensor([T, D], 1),
      prob: { shape: [T], data: testNumbers(T, 2).map(Math.abs) },
      gateUp: testTensor([E, 2 * F, D], 3, 0.5),
      down: testTensor([E, D, F], 4, 0.5),
      index: testIntegers(...Array.from({ length: T }, (_, t) => t % (E + 1))),
    },
    { threads: 2 },
  );
  expect(sameBits(y, parts)).toBe(true);
});

test("refuses an expert that is not there", async () => {
  const [F, bad] = [8, testIntegers(0, 4)];
  const build = ({ x, index, prob, gateUp, down }: Record<string, Value>) => ({ y: experts(x!, index!, prob!, gateUp!, down!) });
  const inputs = {
    x: testTensor([2, 5], 1),
    prob: testTensor([2], 2),
    gateUp: testTensor([3, 2 * F, 5], 3),
    down: testTensor([3, 5, F], 4),
    index: bad,
  };
  await expect(runGraph(build, inputs)).rejects.toThrow("[experts] expected an expert from 0 to 3, received 4 at token 1");
});
