import { describe, expect, test } from "vitest";
import { openDevice } from "../device.js";
import { createGraph } from "../graph.js";
import { instructionSets, throughBfloat16 } from "../operation_cases.js";
import { runGraph, testTensor } from "../testing.js";
import { tensor } from "../types.js";
import { embedding } from "./embedding.js";
import { encode } from "./encode.js";

describe("encode", () => {
  for (const [N, K] of [
    [1, 1],
    [31, 7],
    [32, 32],
    [33, 65],
    [70, 129],
  ] as const) {
    test(`packs ${N} rows of ${K} so that every element can be found again`, async () => {
      const w = testTensor([N, K], 1);
      const ids = { shape: [N], data: Array.from({ length: N }, (_, i) => i), dtype: "int32" } as const;
      for (const isa of await instructionSets()) {
        for (const dtype of ["float32", "bfloat16"] as const) {
          for (const source of ["float32", "bfloat16"] as const) {
            const { y } = await runGraph(
              ({ w, ids }) => ({ y: embedding(encode(w!, dtype), ids!) }),
              { w: { ...w, dtype: source }, ids },
              { isa },
            );
            const narrow = dtype === "bfloat16" || source === "bfloat16";
            expect(y).toEqual(narrow ? throughBfloat16(w.data) : Float32Array.from(w.data));
          }
        }
      }
    });
  }
  test("happens when a tensor of panels is written to a store", async () => {
    await using device = await openDevice("cpu");
    await using store = device.createStore();
    const w = testTensor([37, 11], 1);
    await store.write("w", tensor("bfloat16", [37, 11], "panels"), Float32Array.from(w.data));
    const graph = createGraph();
    const rows = graph.input("ids", tensor("int32", [2]));
    graph.output("y", embedding(graph.read("w", tensor("bfloat16", [37, 11], "panels")), rows));
    await using executable = device.compile(graph, store);
    const { y } = await executable.run({ inputs: { ids: Int32Array.of(36, 0) } });
    const expected = throughBfloat16(w.data);
    expect(y).toEqual(Float32Array.of(...expected.slice(36 * 11), ...expected.slice(0, 11)));
  });
  test("refuses a vector, what is packed already, and a type that is not packed", () => {
    const graph = createGraph();
    expect(() => encode(graph.input("w", tensor("float32", [4, 4])), "int32" as "float32")).toThrow("[encode] packs to float32, bfloat16");
    expect(() => encode(graph.input("v", tensor("float32", [4])), "float32")).toThrow(
      "[encode] expected a plain tensor of at least 2 dimensions",
    );
    const packed = graph.read("p", tensor("float32", [4, 4], "panels"));
    expect(() => encode(packed, "float32")).toThrow("[encode] expected w to be plain float32 or bfloat16 or float64, received panels");
  });
});
