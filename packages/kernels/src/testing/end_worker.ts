// Runs without end in a worker thread that ends meanwhile, in the way that is asked for; prints what the main thread hears of it.
//   end_worker throw | exit | terminate
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import { openDevice } from "../device.js";
import { createGraph } from "../graph.js";
import { linear } from "../ops/linear.js";
import { tensor } from "../types.js";

async function runWithoutEnd(how: unknown): Promise<void> {
  const graph = createGraph();
  const x = graph.input("x", tensor("float32", [64, 64]));
  graph.output("y", linear(x, x));
  const step = (await openDevice("cpu", { threads: 1 })).compile(graph);
  const inputs = { x: new Float32Array(64 * 64) };
  for (let i = 0; i < 50; i++) await step.run({ inputs });
  parentPort?.postMessage("running");
  setTimeout(() => {
    if (how === "throw") throw new Error("boom");
    if (how === "exit") process.exit(3);
  });
  for (;;) await step.run({ inputs });
}

if (isMainThread) {
  const how = process.argv[2];
  const worker = new Worker(__filename, { workerData: how });
  worker.on("message", () => how === "terminate" && worker.terminate());
  worker.on("error", (error) => console.log(`error: ${error.message}`));
  worker.on("exit", (code) => setTimeout(() => console.log(`the worker ended with ${code}`), 20));
} else void runWithoutEnd(workerData);
