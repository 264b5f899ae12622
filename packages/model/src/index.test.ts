import { createGraph, openDevice } from "@zaya/kernels";
import { expect, expectTypeOf, it } from "vitest";
import {
  allocateCache,
  describe,
  type FlopsPerToken,
  forward,
  generationGraph,
  type LoadWeightsOptions,
  loadWeights,
  type Memory,
  type ParseConfigOptions,
  parseConfig,
  presets,
  type RaggedInputs,
  type Routing,
  raggedInputs,
} from "./index.js";

const config = presets["zaya-tiny"];
const weights = { dtype: "float32", encoding: "plain" } as const;

it("has what a graph of one's own needs: ragged inputs, and the cache of generation", async () => {
  const graph = createGraph();
  const inputs: RaggedInputs = raggedInputs(graph, 8, 2);
  const model = forward(graph, config, inputs, { weights });
  expect(model.hidden.type.shape).toEqual([inputs.T, config.hiddenSize]);

  const limits = { maxTokens: 8, maxSequences: 2, maxLogitRows: 2, numPages: 2, numSlots: 2, pagesPerSequence: 1 };
  await using device = await openDevice("cpu", { threads: 1 });
  await using store = device.createStore();
  allocateCache(store, config, limits, { weights });
  const cached = generationGraph(config, limits, { weights }).nodes.filter(
    ({ kind, name }) => kind === "read" && name.startsWith("cache."),
  );
  expect(cached.length).toBeGreaterThan(0);
  for (const { name } of cached) expect(store.has(name), name).toBe(true);
});

it("names the types of what its functions take and return", () => {
  expectTypeOf(describe(config).flops.training).toEqualTypeOf<FlopsPerToken>();
  expectTypeOf(describe(config).memoryToServe).toEqualTypeOf<Memory>();
  expectTypeOf<ReturnType<typeof forward>["layers"][number]["routing"]>().toEqualTypeOf<Routing | null>();
  expectTypeOf(loadWeights).parameter(2).toEqualTypeOf<LoadWeightsOptions>();
  expectTypeOf(parseConfig).parameter(1).toEqualTypeOf<ParseConfigOptions | undefined>();
});
