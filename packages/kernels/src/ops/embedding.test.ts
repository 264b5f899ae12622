import { describe, expect, test } from "vitest";
import { checkCase, checkGradientCase, throughBfloat16 } from "../operation_cases.js";
import { runGraph, testIntegers, testTensor } from "../testing.js";
import { embedding } from "./embedding.js";
import { encode } from "./encode.js";

const rowsOf = (data: ArrayLike<number>, D: number, ids: readonly number[]) =>
  ids.flatMap((id) => Array.from({ length: D }, (_, i) => data[id * D + i]!));

describe("embedding", () => {
  for (const [V, D, ids] of [
    [1, 1, [0]],
    [5, 3, []],
    [7, 33, [6, 0, 3, 3, 6]],
    [40, 130, Array.from({ length: 300 }, (_, i) => (i * 7) % 40)],
  ] as const) {
    const table = testTensor([V, D], 1);
    const tokens = testIntegers(...ids);
    test(`takes ${ids.length} rows of ${D} from a table of ${V}`, async () => {
      const inputs = { table, ids: tokens };
      await checkCase({ inputs, build: ({ table, ids }) => ({ y: embedding(table!, ids!) }), expected: { y: rowsOf(table.data, D, ids) } });
    });
    test(`takes ${ids.length} rows of ${D} from a table of ${V} in panels and in bfloat16`, async () => {
      for (const dtype of ["float32", "bfloat16"] as const) {
        const { panels, plain } = await runGraph(
          ({ table, plain, ids }) => ({ panels: embedding(encode(table!, dtype), ids!), plain: embedding(plain!, ids!) }),
          {
            table,
            plain: { ...table, dtype },
            ids: tokens,
          },
        );
        const expected = dtype === "float32" ? Float32Array.from(table.data) : throughBfloat16(table.data);
        expect(Array.from(panels!)).toEqual(rowsOf(expected, D, ids));
        expect(Array.from(plain!)).toEqual(rowsOf(expected, D, ids));
      }
    });
  }
  test("has the gradient by finite differences, also of repeated and unused rows", async () => {
    await checkGradientCase(({ table, ids }) => [embedding(table!, ids!)], {
      table: testTensor([5, 3], 1),
      ids: testIntegers(3, 0, 3, 4, 3),
    });
  });
  test("sums repeated rows in the order of the tokens on any number of threads", async () => {
    const { vectorJacobian } = await import("../differentiate.js");
    const [ids, D] = [Array.from({ length: 200 }, (_, i) => (i * i) % 9), 70];
    const dy = testTensor([200, D], 2);
    const expected = new Float32Array(9 * D);
    ids.forEach((id, t) => {
      for (let i = 0; i < D; i++) expected[id * D + i] = expected[id * D + i]! + Math.fround(dy.data[t * D + i]!);
    });
    await checkCase({
      inputs: { table: testTensor([9, D], 1), dy, ids: testIntegers(...ids) },
      build: ({ table, dy, ids }) => ({ dtable: vectorJacobian([embedding(table!, ids!)], [dy!], [table!])[0]! }),
      expected: { dtable: expected },
      tolerance: 0,
      float64: false,
    });
  });
  test("fails on an id outside the table", async () => {
    for (const id of [-1, 4]) {
      const run = runGraph(({ table, ids }) => ({ y: embedding(table!, ids!) }), {
        table: testTensor([4, 2], 1),
        ids: testIntegers(0, id),
      });
      await expect(run).rejects.toThrow(`[embedding] expected ids from 0 to 3, received ${id} at position 1`);
    }
  });
});
