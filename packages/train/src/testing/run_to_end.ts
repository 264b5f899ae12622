// node run_to_end.cjs <out> <corpus> <limit>: trains, or goes on with, a small run, and is killed after `limit` bytes of saving.
// Prints the bytes that it counted.
import { killAfter } from "../../../model/src/testing/kill_after.js";

async function main(): Promise<void> {
  const [out = "", corpus = "", limit = "Infinity"] = process.argv.slice(2);
  const counter = killAfter(Number(limit), out);
  const { train } = await import("../train.js");
  const options = {
    model: "zaya-tiny",
    data: [corpus],
    out,
    steps: 4,
    saveEvery: 2,
    evaluateEvery: 3,
    keep: 1,
    vocabSize: 270,
    context: 32,
    windows: 2,
    warmup: 1,
    heldOut: 0.1,
  };
  for await (const _event of train({ ...options, resume: true, threads: 1 }));
  process.stdout.write(String(counter.count()));
}

void main();
