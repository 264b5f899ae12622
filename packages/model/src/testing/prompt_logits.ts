import type { Device, DType, Store } from "@zaya/kernels";
import type { ModelConfig } from "../config.js";
import { allocateCache, generationGraph } from "../graph/generation.js";
import type { WeightStorage } from "../graph/weights.js";
import { raggedBatch } from "./reference_case.js";

export interface LoadedModel {
  readonly device: Device;
  /** Holds the weights. */
  readonly store: Store;
  readonly config: ModelConfig;
  readonly weights: WeightStorage;
  /** Type of cached keys and values. Default: that of the weights. */
  readonly cacheDtype?: DType;
}

/** Logits [B·T,V] of every token of B prompts of T tokens each, read in one step through the cache. */
export async function promptLogits(
  { device, store, config, weights, cacheDtype = weights.dtype }: LoadedModel,
  ids: readonly number[],
  batch: number,
): Promise<Float32Array> {
  const pages = Math.ceil(ids.length / batch / 32);
  const limits = {
    maxTokens: ids.length,
    maxSequences: batch,
    maxLogitRows: ids.length,
    numPages: batch * pages,
    numSlots: batch,
    pagesPerSequence: pages,
    cacheDtype,
  };
  allocateCache(store, config, limits, { weights });
  await using generate = device.compile(generationGraph(config, limits, { weights }), store);
  const { logits } = await generate.run({
    inputs: {
      ...raggedBatch(ids, batch),
      slots: Int32Array.from({ length: batch }, (_, s) => s),
      cached: new Int32Array(batch),
      page_table: Int32Array.from({ length: batch * pages }, (_, i) => i),
      logit_rows: Int32Array.from({ length: ids.length }, (_, i) => i),
    },
  });
  return logits as Float32Array;
}
