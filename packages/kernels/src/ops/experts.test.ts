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

type Weights = "plain" | "float32" | "bfloat16" | "int8" | "int6" | "int4";
interface Sizes {
  readonly D: number;
  readonly F: number;
  readonly E: number;
}

function inputsOf(index: readonly number[], { D, F, E }: Sizes) {
  const T = index.length;
  return {
    x: testTensor([T, D], 1),
    prob: { shape: [T], data: testNumbers(T, 2).map(Math.abs) },
    gateUp: testTensor([E, 2 * F, D], 3, 0.5),
    down: testTensor([E, D, F], 4, 0.5),
    index: testIntegers(...index),
  };
}

/** On every instruction set, with one thread and with three that share a cache or do not. */
async function expectBitsOfDecomposition(inputs: ReturnType<typeof inputsOf>, type: Weights, compute: "float32" | "bfloat16" = "float32") {
  const stored = (w: Value) => (type === "plain" ? w : encode(w, type));
  for (const isa of await instructionSets()) {
    for (const [threads, sharedCache] of [
      [1, true],
      [3, true],
      [3, false],
    ] as const) {
      const { y, parts } = await runGraph(
        ({ x, index, prob, gateUp, down }) => {
          const [g, d] = [stored(gateUp!), stored(down!)];
          const [parts] = expertsOperation.decompose!([x!, index!, prob!, g, d], { compute: compute === "bfloat16" ? 1 : 0 });
          return { y: experts(x!, index!, prob!, g, d, { compute }), parts: parts! };
        },
        inputs,
        { isa, threads, sharedCache },
      );
      expect(sameBits(y, parts), `${isa}, ${threads} threads`).toBe(true);
      expect((y as Float32Array).some((v) => v !== 0)).toBe(true);
    }
  }
}

describe.each([32, 40, 352])("experts of %i inner columns", (F) => {
  const [E, D] = [4, 45];
  const index = [2, 0, 4, 0, 2, 2, 2, 4, 0, 2, 2, 2, 2, 3, 2, 2, 2]; // expert 1 has no token, expert 3 one, two tokens skip, expert 2 has a strip
  const inputs = inputsOf(index, { D, F, E });

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
    (type) => expectBitsOfDecomposition(inputs, type, type === "bfloat16" ? "bfloat16" : "float32"),
  );
});

/** So many tokens an expert, in turn as long as an expert has any left. */
function tokensOf(...counts: number[]): number[] {
  return Array.from({ length: Math.max(...counts) }, (_, i) => counts.flatMap((count, e) => (i < count ? [e] : []))).flat();
}

// Each is cut into tasks in another way (native/cpu/gemm_cut.h).
describe.each([
  { what: "rows that tasks pack themselves, or all beforehand", counts: [700, 0, 3, 150, 20], sizes: { D: 45, F: 96, E: 4 } },
  { what: "columns that tasks pack themselves", counts: [29, 1, 14, 30, 2, 5, 260, 0], sizes: { D: 70, F: 352, E: 7 } },
  { what: "more rows than such columns are for", counts: [1100, 2], sizes: { D: 33, F: 64, E: 2 } },
])("experts with $what", ({ counts, sizes }) => {
  test.each([
    ["plain", "float32"],
    ["plain", "bfloat16"],
    ["float32", "float32"],
    ["bfloat16", "float32"],
    ["bfloat16", "bfloat16"],
  ] as const)("give the bits of their decomposition with %s weights in %s", (type, compute) =>
    expectBitsOfDecomposition(inputsOf(tokensOf(...counts), sizes), type, compute),
  );
});

test("experts whose weights are packed part by part give the bits of their decomposition", async () => {
  await expectBitsOfDecomposition(inputsOf(tokensOf(13), { D: 1024, F: 2112, E: 1 }), "plain");
  await expectBitsOfDecomposition(inputsOf(tokensOf(2), { D: 66000, F: 64, E: 1 }), "plain"); // a part is larger than what is packed at a time
});

test("experts whose result is larger than a cache give the bits of their decomposition", async () => {
  await expectBitsOfDecomposition(inputsOf(tokensOf(87, 87, 87), { D: 1024, F: 32, E: 2 }), "int8");
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
