import { expect, test } from "vitest";
import { openDevice } from "./device.js";
import { createGraph } from "./graph.js";
import { loadAddon } from "./native.js";
import * as ops from "./ops/index.js";
import { type DType, tensor } from "./types.js";

/** A graph that multiplies rows of a table, which it also looks up, by a matrix. */
function lookUpAndMultiply(stored: DType, compute: "float32" | "bfloat16") {
  const graph = createGraph();
  const table = graph.read("table", tensor(stored, [64, 32], "panels"));
  const rows = ops.embedding(table, graph.input("ids", tensor("int32", [3])));
  const plain = ops.linear(rows, graph.input("w", tensor("float32", [5, 32])), { compute });
  graph.output("y", ops.add(ops.linear(rows, table, { compute }), ops.linear(rows, table, { compute })));
  graph.output("plain", plain);
  return graph;
}

test.each([
  ["float32", "float32", "float32"],
  ["bfloat16", "float32", "float32"],
  ["bfloat16", "bfloat16", "bfloat16"],
  ["int8", "float32", "int8"],
  ["int4", "bfloat16", "int8"],
] as const)("a matrix of %s in an operation that computes in %s is multiplied as %s", async (stored, compute, operands) => {
  const expected = (instruction: string | undefined) => {
    const product = { operation: "linear", weight: "table", stored, operands, instruction };
    return [product, product]; // looking rows up is no product, and what is not in the store is no weight
  };
  const graph = lookUpAndMultiply(stored, compute);
  await using nothing = await openDevice("null");
  const planned = nothing.createStore();
  planned.allocate("table", tensor(stored, [64, 32], "panels"));
  expect(nothing.compile(graph, planned).products).toEqual(expected("none"));
  for (const { name, built, missing, instructions } of loadAddon().instructionSets()) {
    if (!built || missing.length > 0) continue;
    await using device = await openDevice("cpu", { isa: name, threads: 1 });
    await using store = device.createStore();
    store.allocate("table", tensor(stored, [64, 32], "panels"));
    await using executable = device.compile(graph, store);
    expect(executable.products).toEqual(expected(instructions[operands]));
    expect(instructions[operands]).not.toBe("");
  }
});

test("a fused operation names each of its matrices", async () => {
  const matrix = tensor("bfloat16", [8, 16], "panels");
  await using device = await openDevice("cpu", { threads: 1 });
  await using store = device.createStore();
  const graph = createGraph();
  const weight = (name: string) => {
    store.allocate(name, matrix);
    return graph.read(name, matrix);
  };
  const weights = { q: weight("q"), k: weight("k"), current: weight("current"), delayed: weight("delayed") };
  graph.output("z", ops.ccaProject(graph.input("x", tensor("float32", [2, 16])), weights).z);
  await using executable = device.compile(graph, store);
  const told = executable.products.map(({ operation, weight: name }) => `${operation} ${name}`);
  expect(told).toEqual(["cca_project q", "cca_project k", "cca_project current", "cca_project delayed"]);
});
