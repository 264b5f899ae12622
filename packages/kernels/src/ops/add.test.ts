import { describe, expect, test } from "vitest";
import { createGraph } from "../graph.js";
import { checkCase, checkGradientCase } from "../operation_cases.js";
import { testTensor } from "../testing.js";
import { tensor } from "../types.js";
import { add } from "./add.js";
import { multiply } from "./multiply.js";
import { scale } from "./scale.js";

const sizes = [0, 1, 17, 40000];

describe("add", () => {
  for (const n of sizes) {
    test(`adds ${n} elements`, async () => {
      const [a, b] = [testTensor([n], 1), testTensor([n], 2)];
      const expected = Array.from(a.data, (x, i) => x + b.data[i]!);
      await checkCase({ inputs: { a, b }, build: ({ a, b }) => ({ y: add(a!, b!) }), expected: { y: expected } });
    });
  }
  test("adds a value to itself, and has the gradient by finite differences", async () => {
    await checkGradientCase(({ a, b }) => [add(a!, b!), add(a!, a!)], { a: testTensor([2, 3], 1), b: testTensor([2, 3], 2) });
  });
  test("refuses another shape", () => {
    const graph = createGraph();
    const call = () => add(graph.input("a", tensor("float32", [2])), graph.input("b", tensor("float32", [3])));
    expect(call).toThrow("[add] expected b of shape [2], received [3]");
  });
});

describe("multiply", () => {
  for (const n of sizes) {
    test(`multiplies ${n} elements`, async () => {
      const [a, b] = [testTensor([n], 1), testTensor([n], 2)];
      const expected = Array.from(a.data, (x, i) => x * b.data[i]!);
      await checkCase({ inputs: { a, b }, build: ({ a, b }) => ({ y: multiply(a!, b!) }), expected: { y: expected } });
    });
  }
  test("has the gradient by finite differences, of a square too", async () => {
    await checkGradientCase(({ a, b }) => [multiply(a!, b!), multiply(a!, a!)], { a: testTensor([2, 3], 1), b: testTensor([2, 3], 2) });
  });
});

describe("scale", () => {
  for (const n of sizes) {
    test(`multiplies ${n} elements by one number`, async () => {
      const [x, factor] = [testTensor([n], 1), { shape: [1], data: [-2.5] }];
      const expected = Array.from(x.data, (v) => v * -2.5);
      await checkCase({ inputs: { x, factor }, build: ({ x, factor }) => ({ y: scale(x!, factor!) }), expected: { y: expected } });
    });
  }
  test("has the gradient by finite differences", async () => {
    await checkGradientCase(({ x, factor }) => [scale(x!, factor!)], { x: testTensor([2, 3], 1), factor: testTensor([1], 2) });
  });
});
