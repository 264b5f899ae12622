import { describe, expect, test } from "vitest";
import { instructionSets, sameBits } from "../operation_cases.js";
import { runGraph, type TestTensor, toArray } from "../testing.js";
import { randomSample } from "./random_sample.js";

const identity = Array.from({ length: 65536 }, (_, i) => i);

const place = (key: readonly [number, number], stream: number, first: number): TestTensor => ({
  shape: [4],
  data: [...key, stream, first].map((word) => word | 0),
  dtype: "int32",
});

async function sample(rows: number, columns: number, at: TestTensor, options = {}): Promise<Float32Array> {
  const { y } = await runGraph(
    ({ table, at }) => ({ y: randomSample(table!, at!, [rows, columns]) }),
    { table: { shape: [65536], data: identity }, at },
    options,
  );
  return y as Float32Array;
}

/** The low and the high half of each word. */
const halves = (...words: readonly number[]) => words.flatMap((word) => [word & 0xffff, word >>> 16]);

describe("random_sample", () => {
  test("is Philox 4x32-10 as its authors tabulate it", async () => {
    // kat_vectors of the Random123 library; its counter words are (block, 0, stream, 0) here.
    for (const isa of await instructionSets()) {
      const y = await sample(1, 8, place([0, 0], 0, 0), { isa });
      expect([...y]).toEqual(halves(0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8));
    }
  });

  test("makes any part alone, on any number of threads", async () => {
    for (const isa of await instructionSets()) {
      const whole = await sample(300, 257, place([7, 9], 5, 3), { isa, threads: 1 });
      for (const threads of [2, 3, 7]) expect(sameBits(await sample(300, 257, place([7, 9], 5, 3), { isa, threads }), whole)).toBe(true);
      const part = await sample(7, 11, place([7, 9], 5, 3 + 1000), { isa });
      expect(sameBits(part, whole.slice(8000, 8077))).toBe(true);
      expect(new Set(whole).size).toBeGreaterThan(40_000);
    }
  });

  test("depends on every part of its place", async () => {
    const places = [place([0, 0], 0, 0), place([1, 0], 0, 0), place([0, 1], 0, 0), place([0, 0], 1, 0), place([0, 0], 0, 1)];
    const samples = await Promise.all(places.map((at) => sample(1, 8, at)));
    expect(new Set(samples.map(String)).size).toBe(places.length);
  });

  test("takes tables of bfloat16, and counters above 2³¹", async () => {
    const values = identity.map((i) => (i - 32768) / 65536);
    const at = place([1, 2], 3, 2 ** 32 - 1);
    for (const isa of await instructionSets()) {
      const build = (dtype: "float32" | "bfloat16") =>
        runGraph(
          ({ table, at }) => ({ y: randomSample(table!, at!, [3, 5]) }),
          { table: { shape: [65536], data: values, dtype }, at },
          { isa },
        );
      const { y } = await build("bfloat16");
      expect(y).toEqual(toArray("bfloat16", (await build("float32")).y!));
    }
  });

  test("gives nothing for an empty shape", async () => {
    expect(await sample(0, 8, place([0, 0], 0, 0))).toHaveLength(0);
  });

  test("refuses a table of another size", async () => {
    await expect(
      runGraph(({ table, at }) => ({ y: randomSample(table!, at!, [1, 1]) }), {
        table: { shape: [4], data: [1, 2, 3, 4] },
        at: place([0, 0], 0, 0),
      }),
    ).rejects.toThrow("[random_sample] expected table of shape [65536], received [4]");
  });
});
