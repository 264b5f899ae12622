import { type Device, openDevice, type Store, tensor } from "@zaya/kernels";
import { initialise, loadCheckpoint, loadWeights, type ModelConfig, parameters, presets } from "@zaya/model";
import { describe, expect, test } from "vitest";
import { openReferenceCase, referenceCases } from "../../model/src/testing/reference_case.js";
import { randomBatch } from "./create.js";
import { allocateTrainingState } from "./optimizer.js";
import { type GivenOptions, parseOptions } from "./options.js";
import { compileStep } from "./step.js";
import type { Batch } from "./windows.js";

const base = parseOptions({ model: "zaya-tiny", data: ["none"], out: "none", steps: 1, dtype: "float32", context: 64, windows: 2 });

async function open(device: Device, config: ModelConfig, options: GivenOptions, seed = 1): Promise<Store> {
  const store = device.createStore();
  allocateTrainingState(store, config, options);
  const shapes = new Map(parameters(config).map(({ name, shape }) => [name, shape]));
  for (const { name, data } of initialise(config, seed)) await store.write(name, tensor("float32", shapes.get(name) ?? []), data);
  return store;
}

const config = { ...presets["zaya-tiny"], vocabSize: 97 };

describe("a training step", () => {
  test.each(referenceCases)("follows the reference's eight AdamW losses: %s", async (path) => {
    const expected = await openReferenceCase(path);
    const { adamw, tolerance } = expected.json;
    await using checkpoint = await loadCheckpoint(path);
    const data = await expected.integers("train_ids");
    const [steps, rows, length] = expected.shape("train_ids") as [number, number, number];
    const optimizer = {
      ...base.optimizer,
      beta1: adamw.betas[0],
      beta2: adamw.betas[1],
      eps: adamw.eps,
      weightDecay: adamw.weight_decay,
      decay: "all" as const,
      clip: 0,
    };
    const options = { ...base, context: length, windows: rows, optimizer, balanceRate: 0 };
    await using device = await openDevice("cpu", { threads: 2 });
    await using store = device.createStore();
    allocateTrainingState(store, checkpoint.config, options);
    await loadWeights(store, checkpoint, { dtype: "float32", encoding: "plain" });
    await using step = compileStep(device, store, checkpoint.config, options);
    const losses: number[] = [];
    for (let s = 0; s < steps; s++) {
      const ids = Int32Array.from(data.slice(s * rows * length, (s + 1) * rows * length));
      const batch: Batch = {
        ids,
        positions: ids.map((_, i) => i % length),
        labels: ids.map((_, i) => (i % length === length - 1 ? -1 : (ids[i + 1] as number))),
        cuSeqlens: Int32Array.from({ length: rows + 1 }, (_, r) => r * length),
      };
      const { lossSum, labels } = await step.run([batch], s + 1, adamw.lr);
      losses.push(lossSum / labels);
    }
    const worst = Math.max(...losses.map((loss, i) => Math.abs(loss - (adamw.losses[i] as number))));
    expect(worst, `${losses} against ${adamw.losses}`).toBeLessThan(tolerance.adamw_loss_abs);
  });

  test("sums gradients over microbatches as one batch of all would", async () => {
    const parts = [0, 1, 2].map((part) => randomBatch(97, 64, 1, 1, part));
    const whole: Batch = {
      ids: Int32Array.from(parts.flatMap((part) => [...part.ids])),
      positions: Int32Array.from(parts.flatMap((part) => [...part.positions])),
      labels: Int32Array.from(parts.flatMap((part) => [...part.labels])),
      cuSeqlens: Int32Array.of(0, 64, 128, 192),
    };
    const results: { loss: number; norm: number; counts: number[][] }[] = [];
    for (const batches of [[whole], parts]) {
      const options = { ...base, windows: 3, accumulation: batches.length };
      await using device = await openDevice("cpu", { threads: 2 });
      await using store = await open(device, config, options);
      await using step = compileStep(device, store, config, options);
      const sums = await step.run(batches, 1, 1e-3);
      results.push({ loss: sums.lossSum / sums.labels, norm: sums.gradNorm, counts: sums.counts.map((layer) => [...layer]) });
    }
    const [one, two] = results;
    expect(two?.counts).toEqual(one?.counts);
    expect(two?.loss).toBeCloseTo(one?.loss ?? 0, 5);
    expect(two?.norm).toBeCloseTo(one?.norm ?? 0, 4);
  });

  test("gives the same bits on 1, 2, 3 and 7 threads", async () => {
    const weights: Float32Array[] = [];
    for (const threads of [1, 2, 3, 7]) {
      const options = { ...base, dtype: "bfloat16" as const };
      await using device = await openDevice("cpu", { threads });
      await using store = await open(device, config, options);
      await using step = compileStep(device, store, config, options);
      for (let number = 1; number <= 2; number++) {
        await step.run([randomBatch(97, 64, 2, number, 0)], number, 1e-3);
      }
      weights.push(Float32Array.from(parameters(config).flatMap(({ name }) => [...(store.read(name) as Float32Array)])));
    }
    for (const other of weights.slice(1))
      expect(Buffer.from(other.buffer).equals(Buffer.from(weights[0]?.buffer as ArrayBuffer))).toBe(true);
  });

  test.each(["adamw", "muon"] as const)("learns a batch by heart with %s", async (name) => {
    const small: ModelConfig = { ...config, numLayers: 1, layerTypes: ["full"] };
    const options = { ...base, optimizer: { ...base.optimizer, name } };
    await using device = await openDevice("cpu", { threads: 2 });
    await using store = await open(device, small, options);
    await using step = compileStep(device, store, small, options);
    const batch = randomBatch(97, 32, 2, 3, 0);
    const losses: number[] = [];
    for (let number = 1; number <= 12; number++) {
      const { lossSum, labels } = await step.run([batch], number, 6e-3);
      losses.push(lossSum / labels);
    }
    expect(losses[0]).toBeGreaterThan(4);
    expect(losses.at(-1)).toBeLessThan(3);
  });

  test("lowers the bias of a busy expert, raises an idle one's, and leaves the skip bias where it is", async () => {
    const options = { ...base, balanceRate: 0.01 };
    await using device = await openDevice("cpu", { threads: 2 });
    await using store = await open(device, config, options);
    await using step = compileStep(device, store, config, options);
    const { counts } = await step.run([randomBatch(97, 64, 2, 5, 0)], 1, 1e-3);
    const fair = 128 / config.numExperts;
    for (const [layer, tokens] of counts.entries()) {
      const biases = store.read(`model.layers.${layer}.mlp.gate.balancing_biases`) as Float32Array;
      expect(biases.at(-1)).toBe(-1);
      tokens.subarray(0, config.numExperts).forEach((n, e) => {
        // The first AdamW step moves by the rate, against the sign of the gradient.
        expect(biases[e]).toBeCloseTo(-0.01 * Math.sign(n - fair), 4);
      });
    }
  });
});
