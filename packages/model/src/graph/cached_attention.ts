import { type Graph, ops, type Value } from "@zaya/kernels";
import type { ModelConfig } from "../config.js";
import type { Compute } from "./forward.js";
import { cacheTensors, type RaggedInputs } from "./inputs.js";

/**
 * Attention over the tokens of this step alone (training), or over everything cached after adding this step's keys and values to
 * the pages. In float32 both give the same bits for the same tokens; alone, bfloat16 is what its operands are rounded to.
 */
export function cachedAttention(
  graph: Graph,
  config: ModelConfig,
  layer: number,
  { q, k, v }: { readonly q: Value; readonly k: Value; readonly v: Value },
  { cuSeqlens, cache }: RaggedInputs,
  mask: { readonly scale: number; readonly window: number },
  compute: Compute,
): Value {
  const state = cache && cacheTensors(config, cache)[layer];
  if (!cache || !state) return ops.attention(q, k, v, cuSeqlens, { ...mask, compute }).o;
  const { keys, values } = ops.kvAppend(
    graph.read(state.keys.name, state.keys.type),
    graph.read(state.values.name, state.values.type),
    k,
    v,
    cuSeqlens,
    cache.cached,
    cache.pageTable,
  );
  graph.assign(state.keys.name, keys);
  graph.assign(state.values.name, values);
  return ops.pagedAttention(q, keys, values, cuSeqlens, cache.cached, cache.pageTable, mask);
}
