import { createGraph, type Device, type DeviceOptions, differentiate, openDevice, type Store, tensor, type Value } from "@zaya/kernels";
import { describe, expect, it } from "vitest";
import type { ZayaConfig } from "../config.js";
import { initialise } from "../initialise.js";
import { parameters } from "../parameters.js";
import { presets } from "../presets.js";
import { runTypes } from "../run_types.js";
import { allocateCache, type GenerationLimits, generationGraph } from "./generation.js";
import { buildLoss } from "./loss.js";
import { storedType, type WeightStorage } from "./weights.js";

// Bitwise equalities on one instruction set: decode = prefill, chunked = whole, batched = alone, packed = separate, n threads = 1.

const config: ZayaConfig = {
  ...presets["zaya-tiny"],
  vocabSize: 97,
  numLayers: 3,
  layerTypes: ["full", "sliding", "full"],
  slidingWindow: 9,
};

/** Random weights with everything at work: scales, biases and states that are not neutral, and a skip class that wins sometimes. */
function randomWeights(name: string, data: Float32Array): Float32Array {
  let state = [...name].reduce((hash, c) => (Math.imul(hash, 31) + c.charCodeAt(0)) >>> 0, 7);
  return data.map((value) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return value + (name.endsWith("balancing_biases") ? 0.1 : 0.05) * ((state / 2 ** 32) * 2 - 1);
  });
}

function bfloat16(data: Float32Array): Uint16Array {
  return Uint16Array.from(new Uint32Array(data.buffer, data.byteOffset, data.length), (b) => (b + 0x7fff + ((b >>> 16) & 1)) >>> 16);
}

async function fill(store: Store, weights: WeightStorage): Promise<void> {
  const specs = new Map(parameters(config).map((spec) => [spec.name, spec]));
  for (const { name, data } of initialise(config, 3)) {
    const spec = specs.get(name);
    if (!spec) continue;
    const values = randomWeights(name, data);
    const type = storedType(spec, weights);
    await store.write(name, type, type.dtype === "bfloat16" ? bfloat16(values) : values);
  }
}

const limits: GenerationLimits = { maxTokens: 160, maxSequences: 4, maxLogitRows: 160, numPages: 16, numSlots: 4, pagesPerSequence: 4 };

interface Chunk {
  readonly slot: number;
  readonly tokens: readonly number[];
  readonly cached: number;
}

async function withGeneration(
  options: DeviceOptions,
  weights: WeightStorage,
  body: (step: (chunks: readonly Chunk[]) => Promise<Float32Array[]>) => Promise<void>,
): Promise<void> {
  await using device = await openDevice("cpu", { threads: 2, ...options });
  const store = device.createStore();
  await fill(store, weights);
  allocateCache(store, config, limits, { weights });
  await using executable = device.compile(generationGraph(config, limits, { weights }), store);
  await body(async (chunks) => {
    const cu = [0];
    for (const { tokens } of chunks) cu.push((cu[cu.length - 1] as number) + tokens.length);
    const total = cu[cu.length - 1] as number;
    const { logits } = await executable.run({
      inputs: {
        ids: Int32Array.from(chunks.flatMap(({ tokens }) => tokens)),
        positions: Int32Array.from(chunks.flatMap(({ tokens, cached }) => tokens.map((_, i) => cached + i))),
        cu_seqlens: Int32Array.from(cu),
        slots: Int32Array.from(chunks, ({ slot }) => slot),
        cached: Int32Array.from(chunks, ({ cached }) => cached),
        page_table: Int32Array.from(chunks.flatMap(({ slot }) => [0, 1, 2, 3].map((page) => slot + 4 * page))),
        logit_rows: Int32Array.from({ length: total }, (_, i) => i),
      },
    });
    return chunks.map((_, s) =>
      (logits as Float32Array).slice((cu[s] as number) * config.vocabSize, (cu[s + 1] as number) * config.vocabSize),
    );
  });
}

const sequence = (length: number, seed: number) => Array.from({ length }, (_, i) => 3 + ((i * 37 + seed * 11 + i * i) % 90));
const first = sequence(100, 1);
const second = sequence(45, 2);

const quantised = (...of: Parameters<typeof runTypes>): WeightStorage => {
  const typeOf = runTypes(...of);
  return { dtype: "bfloat16", encoding: "panels", types: new Map(parameters(config).map((spec) => [spec.name, typeOf(spec)])) };
};
const storages: readonly { readonly name: string; readonly weights: WeightStorage }[] = [
  { name: "float32", weights: { dtype: "float32", encoding: "panels" } },
  { name: "bfloat16", weights: { dtype: "bfloat16", encoding: "panels" } },
  { name: "q8", weights: quantised("q8") },
  { name: "q4", weights: quantised("q4") },
  { name: "q4, 6 and 4 bits", weights: quantised("q4", { attention: "int4", head: "int6" }) },
];

describe.each(storages)("with $name weights", ({ weights }) => {
  it("decoding a token at a time, prefilling in chunks and prefilling at once give the same logits", async () => {
    await withGeneration({}, weights, async (step) => {
      const [whole] = await step([{ slot: 0, tokens: first, cached: 0 }]);
      const decoded: number[] = [];
      for (let i = 0; i < first.length; i++) {
        const [row] = await step([{ slot: 1, tokens: [first[i] as number], cached: i }]);
        decoded.push(...(row as Float32Array));
      }
      expect(Float32Array.from(decoded)).toEqual(whole);
      const chunked: number[] = [];
      for (let at = 0, size = 1; at < first.length; at += size, size = ((size * 5) % 31) + 1) {
        const [rows] = await step([{ slot: 2, tokens: first.slice(at, at + size), cached: at }]);
        chunked.push(...(rows as Float32Array));
      }
      expect(Float32Array.from(chunked)).toEqual(whole);
    });
  });

  it("a sequence gets the same logits alone and in a batch with others", async () => {
    await withGeneration({}, weights, async (step) => {
      const [alone] = await step([{ slot: 3, tokens: second, cached: 0 }]);
      const together = await step([
        { slot: 0, tokens: first.slice(0, 60), cached: 0 },
        { slot: 1, tokens: second, cached: 0 },
        { slot: 2, tokens: first.slice(0, 1), cached: 0 },
      ]);
      expect(together[1]).toEqual(alone);
    });
  });

  it("1, 2, 3 and 7 threads give the same logits", async () => {
    const results: Float32Array[] = [];
    for (const threads of [1, 2, 3, 7]) {
      await withGeneration({ threads }, weights, async (step) => {
        results.push((await step([{ slot: 0, tokens: first, cached: 0 }]))[0] as Float32Array);
      });
    }
    for (const result of results) expect(result).toEqual(results[0]);
  });
});

describe("packed documents", () => {
  const plain: WeightStorage = { dtype: "float32", encoding: "plain" };

  async function lossesOf(device: Device, store: Store, documents: readonly (readonly number[])[]): Promise<Float32Array> {
    const graph = createGraph();
    const { losses, forward } = buildLoss(graph, config, { weights: plain, maxTokens: 160, maxSequences: 4 });
    graph.output("losses", losses);
    graph.output("hidden", forward.hidden);
    await using executable = device.compile(graph, store);
    const cu = [0];
    for (const document of documents) cu.push((cu[cu.length - 1] as number) + document.length);
    const { losses: got, hidden } = await executable.run({
      inputs: {
        ids: Int32Array.from(documents.flat()),
        positions: Int32Array.from(documents.flatMap((document) => document.map((_, i) => i))),
        cu_seqlens: Int32Array.from(cu),
        labels: Int32Array.from(documents.flatMap((document) => document.map((_, i) => document[i + 1] ?? -1))),
      },
    });
    return Float32Array.from([...(hidden as Float32Array), ...(got as Float32Array)]);
  }

  it("a document packed with others is as it is alone, and perturbing it moves its neighbours by exactly 0", async () => {
    await using device = await openDevice("cpu", { threads: 2 });
    const store = device.createStore();
    await fill(store, plain);
    const D = config.hiddenSize;
    const middle = second.slice(0, 33);
    const packed = await lossesOf(device, store, [first.slice(0, 40), middle, first.slice(40, 47)]);
    const alone = await lossesOf(device, store, [middle]);
    expect(packed.slice(40 * D, 73 * D)).toEqual(alone.slice(0, 33 * D));
    const perturbed = await lossesOf(device, store, [first.slice(0, 40), middle.map((id) => (id % 90) + 4), first.slice(40, 47)]);
    expect(perturbed.slice(0, 40 * D)).toEqual(packed.slice(0, 40 * D));
    expect(perturbed.slice(73 * D, 80 * D)).toEqual(packed.slice(73 * D, 80 * D));
    expect(perturbed.slice(40 * D, 73 * D)).not.toEqual(packed.slice(40 * D, 73 * D));
  });
});

it("plans the full-size model on the null device", async () => {
  await using device = await openDevice("null");
  const store = device.createStore();
  const weights: WeightStorage = { dtype: "bfloat16", encoding: "panels" };
  const large = presets["zaya1-8b"];
  for (const spec of parameters(large)) store.allocate(spec.name, storedType(spec, weights));
  const big: GenerationLimits = { maxTokens: 512, maxSequences: 8, maxLogitRows: 8, numPages: 1024, numSlots: 8, pagesPerSequence: 128 };
  allocateCache(store, large, big, { weights });
  const executable = device.compile(generationGraph(large, big, { weights }), store);
  expect(executable.arenaBytes).toBeGreaterThan(512 * 2048 * 4);
  expect(executable.arenaBytes).toBeLessThan(200e6);
});

it("keeps the gradient of every parameter of a small model equal to finite differences in float64", { timeout: 300_000 }, async () => {
  const weights: WeightStorage = { dtype: "float64", encoding: "plain" };
  const small: ZayaConfig = {
    ...config,
    vocabSize: 13,
    hiddenSize: 12,
    numLayers: 2,
    layerTypes: ["full", "sliding"],
    slidingWindow: 3,
    headDim: 4,
    numQueryHeads: 4,
    expertSize: 6,
    numExperts: 3,
    routerSize: 6,
    rope: { full: { theta: 1e4, rotaryDim: 2 }, sliding: { theta: 1e2, rotaryDim: 2 } },
  };
  await using device = await openDevice("cpu", { threads: 2, guard: true });
  const store = device.createStore();
  const specs = parameters(small);
  let state = 5;
  const random = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state / 2 ** 32) * 2 - 1;
  };
  for (const spec of specs) {
    const neutral = /norm\.weight|layernorm\.weight|_scale$|temp$/.test(spec.name) ? 1 : 0;
    const count = spec.shape.reduce((n, d) => n * d, 1);
    const values = Float64Array.from({ length: count }, () => neutral + (neutral ? 0.2 : 0.5) * random());
    if (spec.kind === "balancing") values.fill(0).set([-1], small.numExperts);
    await store.write(spec.name, storedType(spec, weights), values);
  }
  const graph = createGraph();
  const { lossSum } = buildLoss(graph, small, { weights, maxTokens: 12, maxSequences: 2 });
  const trained = specs.filter((spec) => spec.kind !== "balancing");
  const wrt = trained.map((spec) => graph.read(spec.name, storedType(spec, weights)));
  graph.output("loss", lossSum);
  differentiate(lossSum, wrt).forEach((gradient: Value, i: number) => {
    graph.output(trained[i]?.name as string, gradient);
  });
  await using executable = device.compile(graph, store);
  const inputs = {
    ids: Int32Array.of(3, 7, 1, 12, 0, 5, 7, 7, 2, 11, 4, 9),
    positions: Int32Array.of(0, 1, 2, 3, 4, 5, 6, 0, 1, 2, 3, 4),
    cu_seqlens: Int32Array.of(0, 7, 12),
    labels: Int32Array.of(7, 1, 12, 0, 5, 7, -1, 2, 11, 4, 9, -1),
  };
  const analytic = await executable.run({ inputs });
  const step = 1e-6;
  for (const spec of trained) {
    const values = store.read(spec.name) as Float64Array;
    const type = tensor("float64", spec.shape);
    // Every element of small tensors, a spread of twelve of large ones.
    const stride = Math.max(1, Math.floor(values.length / 12));
    for (let i = 0; i < values.length; i += stride) {
      const before = values[i] as number;
      const at = async (value: number) => {
        values[i] = value;
        await store.write(spec.name, type, values);
        return ((await executable.run({ inputs })).loss as Float64Array)[0] as number;
      };
      const numeric = ((await at(before + step)) - (await at(before - step))) / (2 * step);
      await at(before);
      const got = (analytic[spec.name] as Float64Array)[i] as number;
      expect(Math.abs(got - numeric), `${spec.name}[${i}]: ${got} against ${numeric}`).toBeLessThan(2e-6 * Math.max(1, Math.abs(numeric)));
    }
  }
});
