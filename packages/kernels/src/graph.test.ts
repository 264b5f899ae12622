import { expect, test } from "vitest";
import { costOf } from "./cost.js";
import { openDevice } from "./device.js";
import { differentiate, vectorJacobian } from "./differentiate.js";
import { apply, createGraph, type Value } from "./graph.js";
import type { Operation } from "./operation.js";
import * as ops from "./ops/index.js";
import { registry } from "./ops/registry.js";
import { size, tensor } from "./types.js";

const refused = (code: string) => expect.objectContaining({ code });

test("a name is one value of one type", () => {
  const graph = createGraph();
  for (const source of [graph.input, graph.read]) {
    const x = source("x", tensor("float32", [size("T", 8), 2]));
    expect(source("x", tensor("float32", [size("T", 8), 2]))).toBe(x);
    for (const other of [tensor("int32", [size("T", 8), 2]), tensor("float32", [8, 2]), tensor("float32", [size("T", 4), 2, 1])])
      expect(() => source("x", other)).toThrow(refused("INVALID_ARGUMENT"));
  }
});

test("inputs are plain", () => {
  const graph = createGraph();
  for (const type of [tensor("float32", [4, 4], "panels"), tensor("int8", [4, 256], "rows")])
    expect(() => graph.input("w", type)).toThrow(
      expect.objectContaining({
        code: "INVALID_ARGUMENT",
        message: `input w is ${type.encoding} ${type.dtype} [${type.shape.join(", ")}]; inputs are plain, weights in panels are read from a store`,
      }),
    );
});

test("a tensor is of a type that there is", () => {
  expect(() => tensor("float16" as "bfloat16", [2])).toThrow(
    expect.objectContaining({
      code: "INVALID_ARGUMENT",
      message: "unknown type float16; tensors are of float32, bfloat16, float64, int32, int8, int6, int4",
    }),
  );
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

test("costs are of sizes that a step can have", () => {
  const graph = createGraph();
  graph.output("y", ops.gelu(graph.input("x", tensor("float32", [size("T", 8), 2]))));
  for (const T of [-1, Number.NaN, 1.5, 9, Number.POSITIVE_INFINITY])
    expect(() => costOf(graph, { T })).toThrow(
      expect.objectContaining({ code: "INVALID_ARGUMENT", message: `size T is ${T}; it was declared to be a whole number from 0 to 8` }),
    );
  expect(() => costOf(graph)).toThrow(refused("MISSING_INPUT"));
  expect(costOf(graph, { T: 8 }).bytes).toBe(2 * 8 * 2 * 4);
});

test("what nothing needs is not counted, unless a graph needs nothing yet", () => {
  const graph = createGraph();
  const x = graph.input("x", tensor("float32", [8, 8]));
  const y = ops.linear(x, x);
  ops.gelu(y);
  expect([...costOf(graph).operations.keys()]).toEqual(["linear", "gelu"]);
  graph.output("y", y);
  const { flops, operations } = costOf(graph);
  expect([...operations.keys()]).toEqual(["linear"]);
  expect(flops).toBe(2 * 8 ** 3);
  graph.assign("z", ops.gelu(y));
  expect([...costOf(graph).operations.keys()]).toEqual(["linear", "gelu"]);
});

test("gradients are of floating-point values of one graph, and an output has a name of its own", () => {
  const graph = createGraph();
  const [x, i] = [graph.input("x", tensor("float32", [4])), graph.input("i", tensor("int32", [4]))];
  const loss = ops.sum(x);
  const elsewhere = createGraph().input("x", x.type);
  expect(() => differentiate(loss, [elsewhere])).toThrow(refused("INVALID_ARGUMENT"));
  expect(() => vectorJacobian([x], [elsewhere], [x])).toThrow(refused("INVALID_ARGUMENT"));
  expect(() => differentiate(loss, [i])).toThrow("int32 [4] has no gradient");
  expect(elsewhere.graph.nodes).toHaveLength(1);
  graph.output("loss", loss);
  expect(() => graph.output("loss", x)).toThrow("the graph has an output loss already");
});

test("a gradient with respect to a value does not ask for that of the operation that made it", () => {
  const graph = createGraph();
  const table = graph.input("table", tensor("float32", [65536]));
  const noise = ops.randomSample(table, graph.input("place", tensor("int32", [4])), [3, 8]);
  const loss = ops.sum(ops.multiply(noise, noise));
  expect(differentiate(loss, [noise]).map(({ type }) => type)).toEqual([noise.type]);
  expect(() => differentiate(loss, [table])).toThrow("[random_sample] has no gradient");
  expect(() => differentiate(loss, [noise, table])).toThrow("[random_sample] has no gradient");
});

test("a seed is of its output's type", () => {
  const graph = createGraph();
  const x = graph.input("x", tensor("float32", [3, 4]));
  const y = ops.gelu(x);
  for (const type of [tensor("float32", [300, 4]), tensor("float64", [3, 4]), tensor("bfloat16", [3, 4])])
    expect(() => vectorJacobian([y], [graph.input(JSON.stringify(type), type)], [x])).toThrow(refused("SHAPE_MISMATCH"));
  expect(() => vectorJacobian([y], [], [x])).toThrow("seed 0 must be float32 [3, 4] as its output, received nothing");
});

test("attention needs a query head, a balance an expert, and a merge vectors of what it merges", () => {
  const graph = createGraph();
  const at = (...shape: number[]) => graph.input(shape.join(), tensor("float32", shape));
  const lengths = graph.input("lengths", tensor("int32", [2]));
  expect(() => ops.attention(at(2, 0, 4), at(2, 1, 4), at(2, 1, 4), lengths)).toThrow(refused("SHAPE_MISMATCH"));
  for (const classes of [0, 1]) expect(() => ops.balanceGrad(at(classes))).toThrow(refused("SHAPE_MISMATCH"));
  expect(() => ops.residualMerge(at(2, 8), null, { hBias: at(8) })).toThrow("takes h_scale and h_bias only with h");
});

test("the gradient of a convolution wants plain weights", () => {
  const graph = createGraph();
  const at = (...shape: number[]) => graph.input(shape.join(), tensor("float32", shape));
  const z = at(3, 8);
  const panels = graph.read("grouped", tensor("float32", [2, 4, 8], "panels"));
  const y = ops.ccaConv(z, at(8, 1, 2), at(8), panels, at(8), graph.input("lengths", tensor("int32", [2])));
  expect(() => differentiate(y, [z])).toThrow(refused("SHAPE_MISMATCH"));
});

test("a graph larger than any memory is refused", async () => {
  await using device = await openDevice("null");
  const graph = createGraph();
  graph.output("y", ops.softmax(graph.input("x", tensor("float32", [2 ** 32, 2 ** 32]))));
  expect(() => device.compile(graph)).toThrow("larger than any memory");
});

test("a call without its last inputs does not take those of the next", async () => {
  await using device = await openDevice("cpu");
  const graph = createGraph();
  const x = graph.input("x", tensor("float32", [1, 2]));
  const w = graph.input("w", tensor("float32", [4, 2]));
  const bias = graph.input("bias", tensor("float32", [4]));
  const [y] = apply(registry.find(({ name }) => name === "linear") as Operation, [x, w]);
  graph.output("y", y as Value);
  graph.output("z", ops.linear(x, w, { bias }));
  const inputs = { x: Float32Array.of(1, 0), w: Float32Array.of(1, 0, 2, 0, 3, 0, 4, 0), bias: Float32Array.of(1, 2, 3, 4) };
  await using executable = device.compile(graph);
  expect(await executable.run({ inputs })).toEqual({ y: Float32Array.of(1, 2, 3, 4), z: Float32Array.of(2, 4, 6, 8) });
});
