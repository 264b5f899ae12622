import { describe as describeModel, presets } from "@zaya/model";
import { expect, test } from "vitest";
import { estimate } from "./estimate.js";

test("counts parameters, memory and operations without running a step", async () => {
  const result = await estimate({ model: "zaya-512", measure: false, steps: 100, windows: 4, context: 512 });
  // The vocabulary is that of the tokenizer which a run would train.
  const { total } = describeModel({ ...presets["zaya-512"], vocabSize: 4096 }).parameters;
  expect(Object.values(result.parametersByKind).reduce((sum, n) => sum + n, 0)).toBe(total);
  // Weights and two moments, all float32; between microbatches also the gradients, which the biases do not have.
  expect(result.memory.storeBytes).toBe(12 * total);
  const summed = await estimate({ model: "zaya-512", measure: false, steps: 100, windows: 4, context: 512, accumulation: 2 });
  expect(summed.memory.storeBytes).toBeGreaterThan(16 * total - 10_000);
  expect(summed.memory.storeBytes).toBeLessThan(16 * total + 10_000);
  // The gradients of one microbatch are all held until its end.
  expect(result.memory.arenaBytes).toBeGreaterThan(4 * total);
  expect(result.tokensPerStep).toBe(2048);
  expect(result.measured).toBe(false);
});

test("refuses a model and a checkpoint at once", async () => {
  await expect(estimate({ model: "zaya-512", from: "/nowhere" })).rejects.toThrow("model and from are both given; choose one");
});

test("refuses a vocabulary where no tokenizer is trained", async () => {
  await expect(estimate({ model: "zaya-512", tokenizer: "/nowhere", vocabSize: 300 })).rejects.toThrow(
    /^vocabSize and tokenizer are both given/,
  );
});

test("measures a few steps of a small model", async () => {
  const result = await estimate({ model: "zaya-tiny", context: 64, windows: 1, steps: 10 });
  if (result.peakFlops === null) return;
  expect(result.measured).toBe(true);
  expect(result.totalSeconds).toBeCloseTo(10 * (result.secondsPerStep ?? 0), 6);
});

test("stops its steps with the signal's reason", async () => {
  const reason = new Error("enough");
  const aborted = { model: "zaya-tiny", context: 64, windows: 1, signal: AbortSignal.abort(reason) } as const;
  await expect(estimate(aborted)).rejects.toBe(reason);
  expect(await estimate({ ...aborted, measure: false })).toMatchObject({ measured: false });
});

test("plans the 8B model without memory for it", async () => {
  const result = await estimate({ model: "zaya1-8b", context: 4096, windows: 1, measure: false, vocabSize: 262272 });
  expect(result.memory.storeBytes).toBeGreaterThan(12 * 8.8e9);
  expect(result.memory.storeBytes + result.memory.arenaBytes).toBeGreaterThan(16 * 8.8e9);
});
