import { expect, it } from "vitest";
import { openDevice } from "./device.js";
import { differentiate } from "./differentiate.js";
import { createGraph, type Value } from "./graph.js";
import * as ops from "./ops/index.js";
import { decodeGraph, encodeGraph } from "./protobuf.js";
import { size, tensor } from "./types.js";

it("brings back a graph that runs to the same bits", async () => {
  const T = size("T", 6);
  const graph = createGraph();
  const x = graph.input("x", tensor("float32", [T, 4]));
  const w = graph.read("w", tensor("float32", [8, 4]));
  const y = ops.reshape(ops.linear(x, w), [T, 2, 4]);
  const loss = ops.sum(ops.multiply(y, y));
  graph.output("loss", loss);
  graph.assign("w", ops.add(w, differentiate(loss, [w])[0] as Value));
  const again = decodeGraph(encodeGraph(graph));

  const run = async (which: typeof graph) => {
    await using device = await openDevice("cpu");
    const store = device.createStore();
    await store.write(
      "w",
      tensor("float32", [8, 4]),
      Float32Array.from({ length: 32 }, (_, i) => Math.sin(i)),
    );
    await using executable = device.compile(which, store);
    const outputs = await executable.run({ inputs: { x: Float32Array.from({ length: 12 }, (_, i) => i / 7) } });
    return [outputs.loss, store.read("w")];
  };
  expect(await run(again)).toEqual(await run(graph));
});

it("refuses another format version, and bytes that are no graph", () => {
  expect(() => decodeGraph(Uint8Array.of(0xff, 0xff))).toThrow(expect.objectContaining({ code: "FORMAT_UNSUPPORTED" }));
  expect(() => decodeGraph(Uint8Array.of(8, 1, 18, 0))).toThrow(expect.objectContaining({ code: "FORMAT_UNSUPPORTED" })); // a node of nothing
  expect(() => decodeGraph(Uint8Array.of(0x08, 99))).toThrow("format version 99; this package reads 1");
});
