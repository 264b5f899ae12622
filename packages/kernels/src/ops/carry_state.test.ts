import { describe, expect, test } from "vitest";
import { openDevice } from "../device.js";
import { createGraph } from "../graph.js";
import { checkCase } from "../operation_cases.js";
import { runGraph, testIntegers, testTensor } from "../testing.js";
import { size, tensor } from "../types.js";
import { carryState } from "./carry_state.js";
import { sequenceTail } from "./sequence_tail.js";

const build: Parameters<typeof checkCase>[0]["build"] = ({ state, tail, cu, slots }) => ({ out: carryState(state!, tail!, cu!, slots!) });

describe("carry_state", () => {
  test("puts the tail of each sequence with rows into its slot", async () => {
    await checkCase({
      inputs: {
        state: { shape: [5, 2, 1], data: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10] },
        tail: { shape: [4, 2, 1], data: [100, 200, 300, 400, 500, 600, 700, 800] },
        // the third sequence has no rows, and shares a slot with the second
        cu: testIntegers(0, 3, 4, 4, 5),
        slots: testIntegers(4, 1, 1, 2),
      },
      build,
      expected: { out: [1, 2, 300, 400, 700, 800, 7, 8, 100, 200] },
    });
  });
  test("handles no sequence and wide rows", async () => {
    const state = testTensor([2, 1, 37], 1);
    await checkCase({
      inputs: { state, tail: testTensor([0, 1, 37], 2), cu: testIntegers(0), slots: testIntegers() },
      build,
      expected: { out: Array.from(state.data) },
    });
  });
  test("refuses a slot that is not there", async () => {
    const inputs = { state: testTensor([2, 1, 3], 1), tail: testTensor([1, 1, 3], 2), cu: testIntegers(0, 1), slots: testIntegers(2) };
    await expect(runGraph(build, inputs)).rejects.toThrow("[carry_state] expected slots below 2, received 2");
  });
  test("updates the store in place, chunk after chunk, to the state of the whole sequence", async () => {
    await using device = await openDevice("cpu", { threads: 2, guard: true });
    await using store = device.createStore();
    store.write("state", tensor("float32", [2, 2, 3]), new Float32Array(12).fill(99));
    const graph = createGraph();
    const T = size("T", 8);
    const int32 = (name: string, length: Parameters<typeof tensor>[1]) => graph.input(name, tensor("int32", length));
    const state = graph.read("state", tensor("float32", [2, 2, 3]));
    const [cu, slots, cached] = [int32("cu", [2]), int32("slots", [1]), int32("cached", [1])];
    const tail = sequenceTail(graph.input("x", tensor("float32", [T, 3])), cu, { state, slots, cached });
    graph.assign("state", carryState(state, tail, cu, slots));
    await using executable = device.compile(graph, store);
    const x = Float32Array.from({ length: 18 }, (_, i) => i + 1);
    for (const [begin, end] of [
      [0, 1],
      [1, 2],
      [2, 5],
      [5, 6],
    ] as const) {
      await executable.run({
        inputs: {
          x: x.slice(begin * 3, end * 3),
          cu: Int32Array.of(0, end - begin),
          slots: Int32Array.of(1),
          cached: Int32Array.of(begin),
        },
      });
      const row = (t: number) => (t < 0 ? [0, 0, 0] : Array.from(x.slice(t * 3, t * 3 + 3)));
      expect(Array.from(await store.read("state"))).toEqual([99, 99, 99, 99, 99, 99, ...row(end - 2), ...row(end - 1)]);
    }
  });
});
