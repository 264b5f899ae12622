import { createGraph, differentiate, openDevice, type Value } from "@zaya/kernels";
import { expect, it, describe as suite } from "vitest";
import { describe } from "./describe.js";
import { formatDescription } from "./format_description.js";
import { allocateCache } from "./graph/generation.js";
import { buildLoss } from "./graph/loss.js";
import { storedType } from "./graph/weights.js";
import { initialise } from "./initialise.js";
import { parameters } from "./parameters.js";
import { presets } from "./presets.js";
import { runTypes } from "./run_types.js";

suite("describe", () => {
  it("counts ZAYA1-8B to the last parameter", () => {
    const { parameters, tensors } = describe(presets["zaya1-8b"]);
    expect(parameters).toMatchObject({
      total: 8_840_489_464,
      withoutEmbedding: 8_303_356_408,
      active: 753_609_208,
      embedding: 262_272 * 2048,
      head: 0,
    });
    expect(tensors).toEqual({ transformers: 1283, original: 2483 });
  });

  it("counts ZAYA1-74B to the last parameter", () => {
    const { parameters, tensors } = describe(presets["zaya1-74b"]);
    expect(parameters).toMatchObject({ total: 74_793_954_644, withoutEmbedding: 73_719_688_532, active: 4_262_014_292 });
    expect(tensors).toEqual({ transformers: 1923, original: 4683 });
  });

  it("splits training of the 8B as the reports do: 4.52 + 3.22 + 1.01, 2.01, 8.05, 32.2 GFLOP a token at 4k, 8k, 32k, 131k", () => {
    const at = (context: number) => describe(presets["zaya1-8b"], { context }).flops.training;
    const giga = (flops: number) => Number((flops / 1e9).toPrecision(3));
    expect([giga(at(4096).blocks), giga(at(4096).head)]).toEqual([4.52, 3.22]);
    expect([4096, 8192, 32768, 131072].map((context) => giga(at(context).attention))).toEqual([1.01, 2.01, 8.05, 32.2]);
  });

  it("adds groups up to the total, and counts what initialise makes", () => {
    for (const config of Object.values(presets).filter(({ hiddenSize }) => hiddenSize <= 256)) {
      const { parameters: p } = describe(config);
      expect(p.embedding + p.head + p.attention + p.router + p.experts + p.other).toBe(p.total);
      expect([...initialise(config, 1)].reduce((sum, { data }) => sum + data.length, 0)).toBe(p.total);
    }
  });

  it("lets a sliding layer see its window only", () => {
    const full = presets["zaya-tiny"];
    const sliding = { ...full, layerTypes: ["full" as const, "sliding" as const], slidingWindow: 64 };
    const at = (context: number) => ({ full: describe(full, { context }), sliding: describe(sliding, { context }) });
    expect(at(64).sliding.flops.training).toEqual(at(64).full.flops.training);
    expect(at(1024).sliding.decodeBytes.keysAndValues).toBe((at(1024).full.decodeBytes.keysAndValues * (1024 + 64)) / 2048);
    // Σ keys over a sequence of 1024: 64² / 2 while the window fills, then 64 a token.
    const perToken = (64 ** 2 / 2 + 64 * (1024 - 64)) / 1024;
    const { numQueryHeads: N, headDim: H } = full;
    expect(at(1024).sliding.flops.training.attention).toBeCloseTo(12 * N * H * (512 + perToken), 6);
  });

  it("reads bfloat16 matrices, float32 routers and one expert a block for a decoded token", () => {
    const { decodeBytes, memoryToServe } = describe(presets["zaya1-8b"]);
    expect(decodeBytes.head).toBe(262_272 * 2048 * 2);
    expect(decodeBytes.experts).toBe(40 * 3 * 2048 * 2048 * 2);
    expect(decodeBytes.keysAndValues).toBe(40 * 4096 * 2 * 2 * 128 * 2);
    expect(memoryToServe.total).toBeGreaterThan(2 * 8_840_489_464);
  });

  it.each([
    // A row of 256 columns: values, 2 bytes a group of 32 (not for int8), a float32 scale.
    { kind: "bf16", matrix: 512, head: 512, expert: 512 },
    { kind: "q8", matrix: 256 + 4, head: 256 + 4, expert: 256 + 4 },
    { kind: "q4", matrix: 256 + 4, head: 256 + 4, expert: 128 + 16 + 4 },
    { kind: "q4", attention: "int4", head: 192 + 16 + 4, headType: "int6", matrix: 128 + 16 + 4, expert: 128 + 16 + 4 },
  ] as const)("splits what a token of ZAYA1-8B reads from $kind panels into its parts", ({ kind, matrix, head, expert, ...types }) => {
    const { attention, headType } = { attention: undefined, headType: undefined, ...types };
    const typeOf = runTypes(kind, { ...(attention && { attention }), ...(headType && { head: headType }) });
    const { decodeBytes } = describe(presets["zaya1-8b"], { typeOf, context: 16384 });
    const [L, D, C, F, R, E] = [40, 2048, 1280, 2048, 256, 16];
    const merge = 4 * D * 4;
    expect(decodeBytes.head).toBe(((262_272 * D) / 256) * head);
    expect(decodeBytes.experts).toBe(((L * 3 * F * D) / 256) * expert);
    // Norm, projections of 1024 + 256 + 2 · 128 rows and back from 1024, both convolutions with biases, temperatures, merge.
    const convolutions = C * 2 * 4 + C * 128 * 2 * 2 + 2 * C * 4;
    expect(decodeBytes.attention).toBe(L * (D * 4 + (((1536 + 1024) * D) / 256) * matrix + convolutions + 2 * 4 + merge));
    // All but the first block scale the state of the router before; the rows of its last matrix fill a panel of 32.
    expect(decodeBytes.router).toBe(L * ((R * D + 2 * R * R + 32 * R) * 2 + 4 * R * 4 + (E + 1) * 4) + (L - 1) * R * 4);
    expect(decodeBytes.other).toBe(L * (D * 4 + merge) + 3 * D * 4);
    expect(decodeBytes.keysAndValues).toBe(16384 * L * 2 * 2 * 128 * 2);
    const { total, ...parts } = decodeBytes;
    expect(Object.values(parts).reduce((sum, bytes) => sum + bytes)).toBe(total);
  });

  it("reads a head's own bias with an embedding that is the head", () => {
    const config = presets["zaya-tiny"];
    const bytes = (lmHeadBias: boolean) => describe({ ...config, lmHeadBias }).decodeBytes.head;
    expect(bytes(true) - bytes(false)).toBe(4 * config.vocabSize);
  });

  it("counts the state of a sequence", () => {
    const { state } = describe(presets["zaya1-8b"], { context: 33 });
    expect(state).toEqual({
      keysAndValuesPerToken: 40 * 2 * 2 * 128 * 2,
      convolution: 40 * 2 * 1280 * 4,
      delayedValue: 40 * 128 * 4,
      total: 40 * (64 * 2 * 2 * 128 * 2 + 2 * 1280 * 4 + 128 * 4),
    });
  });

  it("says to the byte what a store holds to serve", async () => {
    for (const config of [presets["zaya1-8b"], presets["zaya-512"], presets["dense-512"]]) {
      await using device = await openDevice("null");
      await using store = device.createStore();
      const weights = { dtype: "bfloat16", encoding: "panels" } as const;
      for (const spec of parameters(config)) store.allocate(spec.name, storedType(spec, weights));
      const { parts } = describe(config, { context: 2000, sequences: 3 }).memoryToServe;
      expect(store.bytes()).toBe(parts.weights);
      allocateCache(
        store,
        config,
        { maxTokens: 1, maxSequences: 3, maxLogitRows: 1, numPages: 3 * 63, numSlots: 3, pagesPerSequence: 63 },
        { weights },
      );
      expect(store.bytes()).toBe((parts.weights ?? 0) + (parts.state ?? 0));
    }
  });

  it("estimates the activations of training to a third of what the planner makes of the step", async () => {
    for (const config of [presets["zaya-512"], presets["dense-512"]]) {
      await using device = await openDevice("null");
      await using store = device.createStore();
      const graph = createGraph();
      const float32 = { dtype: "float32", encoding: "plain" } as const;
      const trained = parameters(config).filter(({ kind }) => kind !== "balancing");
      for (const spec of parameters(config)) store.allocate(spec.name, storedType(spec, float32));
      const { lossSum } = buildLoss(graph, config, { maxTokens: 2048, maxSequences: 4, weights: float32, compute: "bfloat16" });
      const gradients = differentiate(
        lossSum,
        trained.map((spec) => graph.read(spec.name, storedType(spec, float32))),
      );
      trained.forEach((spec, i) => {
        const name = `grad.${spec.name}`;
        store.allocate(name, storedType(spec, float32));
        graph.assign(name, gradients[i] as Value);
      });
      const ratio =
        device.compile(graph, store).arenaBytes / (describe(config, { batchTokens: 2048 }).memoryToTrain.parts.activations ?? 0);
      expect(ratio).toBeGreaterThan(0.9);
      expect(ratio).toBeLessThan(1.35);
    }
  });

  it("counts a model as large as a configuration may be, and refuses one that is larger", () => {
    const deep = { ...presets["dense-512"], numLayers: 4096 };
    expect(describe(deep).tensors.transformers).toBe(4096 * 9 + 2);
    expect(() => describe({ ...deep, numLayers: 1e6 })).toThrow(
      expect.objectContaining({ code: "CONFIG_INVALID", message: expect.stringContaining("numLayers: Too big") }),
    );
  });

  it("gives the dense twin of the benchmark the same parameters for a token within 1 %", () => {
    const zaya = describe(presets["zaya-512"]).parameters.active;
    const dense = describe(presets["dense-512"]).parameters;
    expect(Math.abs(dense.active / zaya - 1)).toBeLessThan(0.01);
    expect(dense.active).toBe(dense.withoutEmbedding);
    expect(describe(presets["dense-512"]).tensors.original).toBeNull();
  });

  it.each([
    [{ context: -1 }, "context must be a whole number ≥ 0, received -1"],
    [{ context: Number.NaN }, "context must be a whole number ≥ 0, received NaN"],
    [{ sequences: 1.5 }, "sequences must be a whole number ≥ 0, received 1.5"],
    [{ batchTokens: Number.POSITIVE_INFINITY }, "batchTokens must be a whole number ≥ 0, received Infinity"],
  ])("refuses %o", (options, message) => {
    expect(() => describe(presets["zaya-tiny"], options)).toThrow(expect.objectContaining({ code: "INVALID_ARGUMENT", message }));
  });

  it("knows the kinds of checkpoints to run, and their types", () => {
    const refused = (message: string) => expect.objectContaining({ code: "INVALID_ARGUMENT", message });
    expect(() => runTypes("q2" as "q4")).toThrow(refused("the kind is one of bf16, q8, q4, received q2"));
    expect(() => runTypes("q4", { head: "int2" as "int4" })).toThrow(refused("head is one of int8, int6, int4, received int2"));
  });

  it("is told in lines for people", () => {
    const text = formatDescription(describe(presets["zaya1-8b"]));
    expect(text).toContain("8 840 489 464 total, 8 303 356 408 without embedding, 753 609 208 active a token");
    expect(text).toContain("8.75 GFLOP a token (blocks 4.52, head 3.22, attention 1.01)");
  });
});
