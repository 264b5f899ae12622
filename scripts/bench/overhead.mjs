import { createGraph, median, ops, tensor } from "@zaya/kernels";

/** Microseconds of one awaited run of a one-element operation: the median of 2000. */
export async function awaitedRun(device) {
  const graph = createGraph();
  const x = graph.input("x", tensor("float32", [1]));
  graph.output("y", ops.add(x, x));
  const executable = device.compile(graph);
  const inputs = { x: Float32Array.of(1) };
  const times = [];
  for (let i = 0; i < 2200; i++) {
    const begin = performance.now();
    await executable.run({ inputs });
    if (i >= 200) times.push(1000 * (performance.now() - begin));
  }
  await executable[Symbol.asyncDispose]();
  return median(times);
}
