import { describe, expect, test } from "vitest";
import { createGraph } from "../graph.js";
import { checkCase, checkGradientCase, instructionSets, sameBits, throughBfloat16 } from "../operation_cases.js";
import { runGraph, type TestTensor, testIntegers, testTensor } from "../testing.js";
import { tensor } from "../types.js";
import { ccaConv } from "./cca_conv.js";
import { encode } from "./encode.js";
import { reshape } from "./reshape.js";

type Inputs = Record<string, TestTensor>;

const weights = (C: number, H: number): Inputs => ({
  dw: testTensor([C, 1, 2], 2),
  db: testTensor([C], 3),
  gw: testTensor([C, H, 2], 4, 1 / Math.sqrt(H)),
  gb: testTensor([C], 5),
});

/** Each sequence on its own, column by column, with two columns of history padded on the left once. */
function reference({ z, dw, db, gw, gb, cu, state, slots, cached }: Inputs): number[] {
  const [T, C] = z!.shape as [number, number];
  const H = gw!.shape[1]!;
  const out = new Array<number>(T * C).fill(0);
  for (let s = 0; s + 1 < cu!.data.length; s++) {
    const [begin, end] = [cu!.data[s]!, cu!.data[s + 1]!];
    const column = (t: number, c: number): number => {
      if (t >= 0) return z!.data[(begin + t) * C + c]!;
      return state && cached!.data[s]! > 0 ? state.data[(slots!.data[s]! * 2 + 2 + t) * C + c]! : 0;
    };
    const y = (t: number, c: number) => dw!.data[2 * c]! * column(t - 1, c) + dw!.data[2 * c + 1]! * column(t, c) + db!.data[c]!;
    for (let t = 0; t < end - begin; t++) {
      for (let c = 0; c < C; c++) {
        const group = Math.floor(c / H) * H;
        let sum = gb!.data[c]!;
        for (let h = 0; h < H; h++)
          sum += gw!.data[(c * H + h) * 2]! * y(t - 1, group + h) + gw!.data[(c * H + h) * 2 + 1]! * y(t, group + h);
        out[(begin + t) * C + c] = sum;
      }
    }
  }
  return out;
}

const build: Parameters<typeof checkCase>[0]["build"] = ({ z, dw, db, gw, gb, cu, state, slots, cached }) => ({
  out: ccaConv(z!, dw!, db!, gw!, gb!, cu!, state ? { state, slots: slots!, cached: cached! } : {}),
});

const cases: [string, number, number, number, number[]][] = [
  ["one sequence", 7, 6, 3, [0, 7]],
  ["one token", 1, 32, 16, [0, 1]],
  ["documents of one, two and three tokens and an empty one", 6, 10, 5, [0, 1, 3, 3, 6]],
  ["groups of 16, more rows than a block", 131, 32, 16, [0, 60, 97, 131]],
  ["groups of 33, more rows than a task", 300, 66, 33, [0, 290, 291, 300]],
  ["groups of 128, as in the published models", 100, 256, 128, [0, 95, 100]],
  ["rows that belong to no sequence", 5, 4, 2, [0, 3]],
  ["no token", 0, 4, 2, [0, 0]],
];

describe("cca_conv", () => {
  for (const [name, T, C, H, cu] of cases) {
    test(`convolves twice with one padding: ${name}`, async () => {
      const inputs = { z: testTensor([T, C], 1), ...weights(C, H), cu: testIntegers(...cu) };
      await checkCase({ inputs, build, expected: { out: reference(inputs) }, tolerance: 5e-6 });
    });
  }

  const stateful = (T: number, C: number, H: number, cu: number[], cached: number[]): Inputs => ({
    z: testTensor([T, C], 1),
    ...weights(C, H),
    cu: testIntegers(...cu),
    state: testTensor([4, 2, C], 6),
    slots: testIntegers(2, 0, 3),
    cached: testIntegers(...cached),
  });
  test("goes on from the two columns of a slot, and ignores a slot whose sequence has nothing cached", async () => {
    const inputs = stateful(6, 10, 5, [0, 1, 3, 6], [7, 0, 1]);
    await checkCase({ inputs, build, expected: { out: reference(inputs) }, tolerance: 5e-6 });
  });

  test("reads bfloat16 weights", async () => {
    const inputs: Inputs = { z: testTensor([5, 34], 1), ...weights(34, 17), cu: testIntegers(0, 5) };
    const rounded = { ...inputs };
    for (const name of ["dw", "db", "gw", "gb"]) {
      rounded[name] = { ...inputs[name]!, data: throughBfloat16(inputs[name]!.data) };
      inputs[name] = { ...inputs[name]!, dtype: "bfloat16" };
    }
    await checkCase({ inputs, build, expected: { out: reference(rounded) }, tolerance: 5e-6 });
  });

  for (const [T, C, H] of [
    [5, 34, 17],
    [100, 256, 128],
    [1, 64, 32],
  ] as const) {
    test(`reads the grouped weight from panels, with the bits of the plain one: ${T} tokens, groups of ${H}`, async () => {
      const inputs: Inputs = { z: testTensor([T, C], 1), ...weights(C, H), cu: testIntegers(0, T) };
      inputs.gw = { ...inputs.gw!, data: throughBfloat16(inputs.gw!.data) };
      const all: typeof build = ({ z, dw, db, gw, gb, cu }) => {
        const matrices = reshape(gw!, [C / H, H, 2 * H]);
        const wide = gw!.type.dtype === "float64" ? "float64" : "float32";
        const inPanels = (dtype: "float32" | "float64" | "bfloat16") => ccaConv(z!, dw!, db!, encode(matrices, dtype), gb!, cu!);
        return { out: ccaConv(z!, dw!, db!, gw!, gb!, cu!), inPanels: inPanels(wide), narrow: inPanels("bfloat16") };
      };
      const expected = reference(inputs);
      await checkCase({ inputs, build: all, expected: { out: expected, inPanels: expected, narrow: expected }, tolerance: 5e-6 });
      for (const isa of await instructionSets()) {
        const { out, inPanels, narrow } = await runGraph(all, inputs, { isa });
        expect(sameBits(inPanels, out)).toBe(true);
        expect(sameBits(narrow, out)).toBe(true);
      }
    });
  }

  test("gives a token the same bits alone, in a chunk and in the whole sequence", async () => {
    const [T, C, H] = [40, 64, 32];
    for (const isa of await instructionSets()) {
      const all: Inputs = { z: testTensor([T, C], 1), ...weights(C, H), cu: testIntegers(0, T) };
      const { out: whole } = await runGraph(build, all, { isa });
      for (const [begin, end] of [
        [0, 1],
        [1, 2],
        [2, 3],
        [17, 18],
        [1, 30],
        [39, 40],
      ] as const) {
        const rows = (from: number, to: number) =>
          Array.from({ length: (to - from) * C }, (_, i) => (from * C + i < 0 ? 0 : all.z!.data[from * C + i]!));
        const chunk: Inputs = {
          ...all,
          z: { shape: [end - begin, C], data: rows(begin, end) },
          cu: testIntegers(0, end - begin),
          state: { shape: [1, 2, C], data: rows(begin - 2, begin) },
          slots: testIntegers(0),
          cached: testIntegers(begin),
        };
        const { out } = await runGraph(build, chunk, { isa });
        expect(sameBits(out, whole!.slice(begin * C, end * C))).toBe(true);
      }
    }
  });

  test("moves nothing in a document when its neighbour changes", async () => {
    const inputs: Inputs = { z: testTensor([9, 8], 1), ...weights(8, 4), cu: testIntegers(0, 4, 9) };
    const { out } = await runGraph(build, inputs);
    const changed = { ...inputs.z!, data: Array.from(inputs.z!.data, (v, i) => (i < 32 ? v + 1 : v)) };
    const { out: other } = await runGraph(build, { ...inputs, z: changed });
    expect(sameBits(out!.slice(32), other!.slice(32))).toBe(true);
    expect(sameBits(out!.slice(0, 32), other!.slice(0, 32))).toBe(false);
  });

  for (const [name, T, C, H, cu] of [
    ["one sequence", 5, 6, 3, [0, 5]],
    ["documents of one, two and three tokens and an empty one", 6, 4, 2, [0, 1, 3, 3, 6]],
    ["documents across blocks of rows", 100, 2, 1, [0, 94, 95, 97, 100]],
    ["rows that belong to no sequence", 5, 4, 2, [0, 3]],
  ] as const) {
    test(`has the gradient by finite differences: ${name}`, async () => {
      await checkGradientCase(({ z, dw, db, gw, gb, cu }) => [ccaConv(z!, dw!, db!, gw!, gb!, cu!)], {
        z: testTensor([T, C], 1),
        ...weights(C, H),
        cu: testIntegers(...cu),
      });
    });
  }
  test("sums weight gradients over chunks of rows as over all of them, with the same bits on any number of threads", async () => {
    const [T, C, H] = [1700, 8, 4];
    const { vectorJacobian } = await import("../differentiate.js");
    const inputs: Inputs = {
      z: testTensor([T, C], 1),
      ...weights(C, H),
      cu: testIntegers(0, 767, 769, 1537, T),
      dout: testTensor([T, C], 9),
    };
    const gradients: typeof build = ({ z, dw, db, gw, gb, cu, dout }) => {
      const wrt = { z: z!, dw: dw!, db: db!, gw: gw!, gb: gb! };
      const found = vectorJacobian([ccaConv(wrt.z, wrt.dw, wrt.db, wrt.gw, wrt.gb, cu!)], [dout!], Object.values(wrt));
      return Object.fromEntries(Object.keys(wrt).map((name, i) => [name, found[i]!]));
    };
    const exact = await runGraph(gradients, inputs, { dtype: "float64", threads: 1 });
    await checkCase({ inputs, build: gradients, expected: exact, tolerance: 2e-4 });
    // Σ over the rows, element by element, for one weight of each kind.
    const { z, dout, db } = inputs;
    let bias = 0;
    for (let t = 0; t < T; t++) bias += dout!.data[t * C + 3]!;
    expect(exact.gb![3]!).toBeCloseTo(bias, 9);
    const starts = new Set([0, 767, 769, 1537]);
    const y = (t: number, c: number) =>
      inputs.dw!.data[2 * c]! * (starts.has(t) ? 0 : z!.data[(t - 1) * C + c]!) +
      inputs.dw!.data[2 * c + 1]! * z!.data[t * C + c]! +
      db!.data[c]!;
    let weight = 0;
    for (let t = 0; t < T; t++) weight += dout!.data[t * C + 5]! * y(t, 6);
    expect(exact.gw![(5 * H + 2) * 2 + 1]!).toBeCloseTo(weight, 9);
  });

  for (const [what, change, message] of [
    ["falling cu_seqlens", { cu: testIntegers(0, 2, 1, 3) }, "expected cu_seqlens not to fall"],
    ["cu_seqlens past the rows", { cu: testIntegers(0, 1, 2, 9) }, "expected cu_seqlens to end at most at the 6 rows"],
    ["a slot that is not there", { slots: testIntegers(0, 4, 1) }, "expected slots below 4, received 4"],
  ] as const) {
    test(`fails on ${what}`, async () => {
      await expect(runGraph(build, { ...stateful(6, 4, 2, [0, 1, 3, 6], [1, 1, 1]), ...change } as Inputs)).rejects.toThrow(message);
    });
  }
  test("refuses groups that do not divide the channels", () => {
    const graph = createGraph();
    const input = (name: string, shape: number[]) => graph.input(name, tensor(name === "cu" ? "int32" : "float32", shape));
    const call = () =>
      ccaConv(input("z", [2, 6]), input("dw", [6, 1, 2]), input("db", [6]), input("gw", [6, 4, 2]), input("gb", [6]), input("cu", [2]));
    expect(call).toThrow("[cca_conv] groups of 4 do not divide 6 channels");
  });
});
