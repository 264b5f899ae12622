import { describe, expect, test } from "vitest";
import { openDevice } from "../device.js";
import { createGraph } from "../graph.js";
import { checkCase } from "../operation_cases.js";
import { testIntegers, testTensor } from "../testing.js";
import { size, tensor } from "../types.js";
import { carryState } from "./carry_state.js";

const build: Parameters<typeof checkCase>[0]["build"] = ({ state, x, cu, slots, cached }) => ({
  out: carryState(state!, x!, cu!, slots!, cached!),
});

describe("carry_state", () => {
  test("keeps the last rows of each sequence, older ones from the state, zeros before the first token", async () => {
    await checkCase({
      inputs: {
        state: { shape: [5, 2, 1], data: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10] },
        x: { shape: [5, 1], data: [100, 200, 300, 400, 500] },
        // three tokens; one with history; one without; none
        cu: testIntegers(0, 3, 4, 5, 5),
        slots: testIntegers(0, 1, 2, 3),
        cached: testIntegers(4, 1, 0, 9),
      },
      build,
      expected: { out: [200, 300, 4, 400, 0, 500, 7, 8, 9, 10] },
    });
  });
  test("handles no sequence and wide rows", async () => {
    const state = testTensor([2, 1, 37], 1);
    await checkCase({
      inputs: { state, x: testTensor([0, 37], 2), cu: testIntegers(0), slots: testIntegers(), cached: testIntegers() },
      build,
      expected: { out: Array.from(state.data) },
    });
  });
  test("updates the store in place, chunk after chunk, to the state of the whole sequence", async () => {
    await using device = await openDevice("cpu", { threads: 2, guard: true });
    await using store = device.createStore();
    store.write("state", tensor("float32", [2, 2, 3]), new Float32Array(12).fill(99));
    const graph = createGraph();
    const T = size("T", 8);
    const int32 = (name: string, length: Parameters<typeof tensor>[1]) => graph.input(name, tensor("int32", length));
    const state = graph.read("state", tensor("float32", [2, 2, 3]));
    graph.assign(
      "state",
      carryState(state, graph.input("x", tensor("float32", [T, 3])), int32("cu", [2]), int32("slots", [1]), int32("cached", [1])),
    );
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
      const tail = (t: number) => (t < 0 ? [0, 0, 0] : Array.from(x.slice(t * 3, t * 3 + 3)));
      expect(Array.from(await store.read("state"))).toEqual([99, 99, 99, 99, 99, 99, ...tail(end - 2), ...tail(end - 1)]);
    }
  });
});
