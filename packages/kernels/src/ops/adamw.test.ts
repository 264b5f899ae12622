import { describe, expect, test } from "vitest";
import { openDevice } from "../device.js";
import { createGraph } from "../graph.js";
import { instructionSets, sameBits } from "../operation_cases.js";
import { runGraph, testTensor } from "../testing.js";
import { tensor } from "../types.js";
import { adamw } from "./adamw.js";

/** torch.optim.AdamW's single-tensor step, written in its order. */
function reference(p: number, g: number, m: number, v: number, scale: number, [lr, beta1, beta2, eps, decay, step]: readonly number[]) {
  const gradient = g * scale;
  const mean = m + (gradient - m) * (1 - beta1!);
  const square = v * beta2! + gradient * gradient * (1 - beta2!);
  const denominator = Math.sqrt(square) / Math.sqrt(1 - beta2! ** step!) + eps!;
  return { p: p * (1 - lr! * decay!) - ((lr! / (1 - beta1! ** step!)) * mean) / denominator, m: mean, v: square };
}

const hypers = [
  [1e-3, 0.9, 0.999, 1e-8, 0.01, 1],
  [1e-2, 0.9, 0.95, 1e-8, 0, 1000],
  [0.5, 0, 0, 1e-3, 0.5, 3],
];

describe("adamw", () => {
  for (const hyper of hypers) {
    for (const n of [1, 17, 40000]) {
      test(`updates ${n} elements as torch does with ${hyper}`, async () => {
        const [p, g, m] = [testTensor([n], 1), testTensor([n], 2), testTensor([n], 3)];
        const v = { shape: [n], data: Array.from(testTensor([n], 4).data, Math.abs) };
        const inputs = { p, g, m, v, scale: { shape: [1], data: [0.25] }, hyper: { shape: [6], data: hyper } };
        const build: Parameters<typeof runGraph>[0] = (x) => ({ ...adamw(x.p!, x.g!, x.m!, x.v!, x.scale!, x.hyper!) });
        const wide = await runGraph(build, inputs, { dtype: "float64" });
        const wanted = Array.from({ length: n }, (_, i) => reference(p.data[i]!, g.data[i]!, m.data[i]!, v.data[i]!, 0.25, hyper));
        for (const name of ["p", "m", "v"] as const) {
          expect(wanted.findIndex((value, i) => !(Math.abs(wide[name]![i]! - value[name]) < 1e-12))).toBe(-1);
        }
        for (const isa of await instructionSets()) {
          const single = await runGraph(build, inputs, { isa, threads: 1 });
          const many = await runGraph(build, inputs, { isa, threads: 3 });
          for (const name of ["p", "m", "v"] as const) {
            expect(sameBits(single[name], many[name])).toBe(true);
            expect(single[name]!.findIndex((value, i) => !(Math.abs(value - wide[name]![i]!) < 2e-6))).toBe(-1);
          }
        }
      });
    }
  }

  test("minimises a parabola in the store, in place", async () => {
    await using device = await openDevice("cpu", { threads: 2, guard: true });
    await using store = device.createStore();
    const type = tensor("float32", [2]);
    store.write("p", type, Float32Array.of(3, -2));
    for (const name of ["m", "v"]) store.write(name, type, new Float32Array(2));
    const graph = createGraph();
    const p = graph.read("p", type);
    const one = graph.input("one", tensor("float32", [1]));
    const next = adamw(p, p, graph.read("m", type), graph.read("v", type), one, graph.input("hyper", tensor("float32", [6])));
    graph.assign("p", next.p);
    graph.assign("m", next.m);
    graph.assign("v", next.v);
    await using executable = device.compile(graph, store);
    for (let step = 1; step <= 400; step++) {
      await executable.run({ inputs: { one: Float32Array.of(1), hyper: Float32Array.of(0.05, 0.9, 0.95, 1e-8, 0, step) } });
    }
    for (const value of await store.read("p")) expect(Math.abs(value)).toBeLessThan(1e-2);
  });
});
