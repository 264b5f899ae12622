import { type DType, type Graph, ops, plus, type Size, size, tensor, type Value } from "@zaya/kernels";
import type { ModelConfig } from "../config.js";

/**
 * The one ragged axis on which every token enters, in training, prefill and decode alike.
 * T tokens of S sequences; sequence s owns the tokens from cuSeqlens[s] to cuSeqlens[s+1].
 */
export interface RaggedInputs {
  readonly T: Size;
  readonly S: Size;
  /** int32 [T] */
  readonly ids: Value;
  /** int32 [T], the position of each token in its sequence. */
  readonly positions: Value;
  /** int32 [S+1] */
  readonly cuSeqlens: Value;
  /** What is carried from chunk to chunk when generating; absent in training. */
  readonly cache?: CacheInputs;
}

export interface CacheInputs {
  /** int32 [S], the row of the convolution and delay states that belongs to each sequence. */
  readonly slots: Value;
  /** int32 [S], tokens of each sequence that were cached by earlier steps. */
  readonly cached: Value;
  /** int32 [S, pagesPerSequence], pages of each sequence in order. */
  readonly pageTable: Value;
  readonly numSlots: number;
  readonly numPages: number;
  /** Element type of cached keys and values. */
  readonly dtype: DType;
}

/** Declares the ragged inputs of a graph for at most so many tokens and sequences. */
export function raggedInputs(graph: Graph, maxTokens: number, maxSequences: number): RaggedInputs {
  const T = size("T", maxTokens);
  const S = size("S", maxSequences);
  return {
    T,
    S,
    ids: graph.input("ids", tensor("int32", [T])),
    positions: graph.input("positions", tensor("int32", [T])),
    cuSeqlens: graph.input("cu_seqlens", tensor("int32", [plus(S, 1)])),
  };
}

export interface CacheLimits {
  readonly numPages: number;
  readonly numSlots: number;
  readonly pagesPerSequence: number;
  readonly dtype: DType;
}

/** Adds the inputs that say where each sequence's cache is. */
export function withCache(graph: Graph, inputs: RaggedInputs, { numPages, numSlots, pagesPerSequence, dtype }: CacheLimits): RaggedInputs {
  return {
    ...inputs,
    cache: {
      slots: graph.input("slots", tensor("int32", [inputs.S])),
      cached: graph.input("cached", tensor("int32", [inputs.S])),
      pageTable: graph.input("page_table", tensor("int32", [inputs.S, pagesPerSequence])),
      numSlots,
      numPages,
      dtype,
    },
  };
}

/** Tensors of the store that carry a sequence's state from step to step, by name. */
export function cacheTensors(config: ModelConfig, { numPages, numSlots, dtype }: Pick<CacheLimits, "numPages" | "numSlots" | "dtype">) {
  const { numQueryHeads: N, numKeyValueHeads: K, headDim: H } = config;
  const state: DType = dtype === "float64" ? "float64" : "float32";
  const pages = ops.kvPages(dtype, numPages, K, H);
  return Array.from({ length: config.numLayers }, (_, layer) => ({
    keys: { name: `cache.${layer}.keys`, type: pages.keys },
    values: { name: `cache.${layer}.values`, type: pages.values },
    // The last two columns before the convolutions, and the last projected delayed value.
    conv: { name: `cache.${layer}.conv`, type: tensor(state, [numSlots, 2, (N + K) * H]) },
    delay: { name: `cache.${layer}.delay`, type: tensor(state, [numSlots, 1, (K * H) / 2]) },
  }));
}
