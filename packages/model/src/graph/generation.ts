import { createGraph, type DType, type Graph, ops, type Store, size, tensor } from "@zaya/kernels";
import type { ModelConfig } from "../config.js";
import { type ForwardOptions, forward } from "./forward.js";
import { cacheTensors, raggedInputs, withCache } from "./inputs.js";

/** How much one generation step can hold. */
export interface GenerationLimits {
  /** Tokens of all sequences in one step. */
  readonly maxTokens: number;
  readonly maxSequences: number;
  /** Rows of logits in one step. */
  readonly maxLogitRows: number;
  /** Pages of 32 tokens in the key/value cache, for all sequences. */
  readonly numPages: number;
  /** Sequences that can have state at once. */
  readonly numSlots: number;
  /** Pages one sequence can have: its context in tokens / 32. */
  readonly pagesPerSequence: number;
  /** Element type of cached keys and values. Default: that of the weights. */
  readonly cacheDtype?: DType | undefined;
}

export interface GenerationOptions extends ForwardOptions {
  /** Also output `experts.0`, `experts.1` …: int32 [T], the expert that each token chose in that layer. Default false. */
  readonly routing?: boolean | undefined;
  /** Also rank the logits: input `temperatures` float32 [R], outputs `top_values`, `top_ids` [R,k], `top_sums` [R,2] and `top_masses` of `topK`. Default: no. */
  readonly ranked?: number | undefined;
}

/**
 * The graph of one step of generation: any mix of prefill chunks and single tokens.
 *
 * Inputs, all int32: `ids`, `positions` [T], `cu_seqlens` [S+1], `slots`, `cached` [S], `page_table` [S, pagesPerSequence],
 * `logit_rows` [R] (which of the T tokens want logits). Output: `logits`, float32 [R,V].
 *
 * @throws CONFIG_INVALID
 */
export function generationGraph(config: ModelConfig, limits: GenerationLimits, options: GenerationOptions): Graph {
  const graph = createGraph();
  const dtype = limits.cacheDtype ?? options.weights.dtype;
  const inputs = withCache(graph, raggedInputs(graph, limits.maxTokens, limits.maxSequences), { ...limits, dtype });
  const R = [size("R", limits.maxLogitRows)];
  const rows = graph.input("logit_rows", tensor("int32", R));
  const model = forward(graph, config, inputs, options);
  const wanted_RD = ops.gatherRows(model.hidden, rows);
  const logits_RV = ops.linear(wanted_RD, model.head, { compute: model.compute, ...(model.headBias ? { bias: model.headBias } : {}) });
  graph.output("logits", logits_RV);
  if (options.ranked) {
    const temperatures = graph.input("temperatures", tensor("float32", R));
    const { values, ids, sums, masses } = ops.topK(logits_RV, temperatures, Math.min(options.ranked, config.vocabSize));
    graph.output("top_values", values);
    graph.output("top_ids", ids);
    graph.output("top_sums", sums);
    graph.output("top_masses", masses);
  }
  model.layers.forEach(({ routing }, layer) => {
    if (options.routing && routing) graph.output(`experts.${layer}`, routing.index);
  });
  return graph;
}

/** Makes the cache tensors that {@link generationGraph} uses. */
export function allocateCache(store: Store, config: ModelConfig, limits: GenerationLimits, { weights }: ForwardOptions): void {
  const dtype = limits.cacheDtype ?? weights.dtype;
  for (const tensors of cacheTensors(config, { ...limits, dtype })) {
    for (const { name, type } of config.kind === "zaya" ? Object.values(tensors) : [tensors.keys, tensors.values])
      store.allocate(name, type);
  }
}
