import { expect, test } from "vitest";
import { costOf } from "./cost.js";
import { openDevice } from "./device.js";
import { createGraph } from "./graph.js";
import * as ops from "./ops/index.js";
import { size, tensor } from "./types.js";

const refused = (code: string) => expect.objectContaining({ code });

test("a name is one value of one type", () => {
  const graph = createGraph();
  for (const source of [graph.input, graph.read]) {
    const x = source("x", tensor("float32", [size("T", 8), 2]));
    expect(source("x", tensor("float32", [size("T", 8), 2]))).toBe(x);
    for (const other of [tensor("int32", [size("T", 8), 2]), tensor("float32", [8, 2]), tensor("float32", [size("T", 8), 2], "panels")])
      expect(() => source("x", other)).toThrow(refused("INVALID_ARGUMENT"));
  }
});

test("a size has one maximum", async () => {
  await using device = await openDevice("cpu");
  const graph = createGraph();
  graph.output("x", ops.sum(graph.input("x", tensor("float32", [size("T", 8)]))));
  graph.output("y", ops.sum(graph.input("y", tensor("float32", [size("T", 4)]))));
  expect(() => device.compile(graph)).toThrow("size T has a max of 8 and of 4 in one graph");
});

test("a shape has the elements of another only if it has them whatever its sizes are", () => {
  const [T, S] = [size("T", 8), size("S", 8)];
  const graph = createGraph();
  const x = graph.input("x", tensor("float32", [T, 6]));
  for (const shape of [
    [T, 2, 3],
    [6, T],
    [1, T, 6],
    [{ ...T, times: 2 }, 3],
  ])
    expect(ops.reshape(x, shape).type.shape).toEqual(shape);
  for (const shape of [[8, 6], [48], [S, 6], [T, 5], [{ ...T, plus: 1 }, 6], [T, T, 6]])
    expect(() => ops.reshape(x, shape), JSON.stringify(shape)).toThrow(refused("SHAPE_MISMATCH"));
});

test("weights in panels are not taken for rows", () => {
  const graph = createGraph();
  const rows = graph.input("rows", tensor("int32", [2]));
  for (const dtype of ["float32", "int4"] as const) {
    const w = graph.read(dtype, tensor(dtype, [64, 4], "panels"));
    expect(() => ops.slice(w, { begin: 0, end: 3 })).toThrow(refused("SHAPE_MISMATCH"));
    expect(() => ops.gatherRows(w, rows)).toThrow(refused("SHAPE_MISMATCH"));
  }
});

test("a step counts the bytes of the experts and rows that its tokens can use", () => {
  const [T, E, D, F, V] = [size("T", 64), 16, 32, 24, 1000];
  const graph = createGraph();
  const x = ops.embedding(graph.read("table", tensor("float32", [V, D])), graph.input("ids", tensor("int32", [T])));
  const weights = [
    graph.read("up", tensor("bfloat16", [E, 2 * F, D], "panels")),
    graph.read("down", tensor("bfloat16", [E, D, F], "panels")),
  ] as const;
  graph.output("y", ops.experts(x, graph.input("index", tensor("int32", [T])), graph.input("prob", tensor("float32", [T])), ...weights));
  for (const tokens of [1, 5, 64]) {
    const { operations } = costOf(graph, { T: tokens });
    const expert = 2 * (64 * D + 32 * F); // bfloat16 in panels of 32 rows: 2F = 48 becomes 64
    expect(operations.get("experts")?.bytes).toBe(Math.min(E, tokens) * expert + tokens * (2 * 4 * D + 4 + 4));
    expect(operations.get("embedding")?.bytes).toBe(tokens * (2 * 4 * D + 4));
  }
});
