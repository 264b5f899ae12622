import { type Device, openDevice } from "@zaya/kernels";
import { allocateCache, type Checkpoint, generationGraph, loadWeights } from "@zaya/model";
import type { RunnerLimits, StepRunner } from "./runner.js";

export interface ModelRunnerOptions {
  readonly limits: Omit<RunnerLimits, "vocabSize">;
  /** Type of the matrices, of cached keys and values, and of the operands of matrix products; sums are always float32. */
  readonly dtype: "float32" | "bfloat16";
  readonly threads?: number | undefined;
  /** A device to run on, which stays open afterwards. Default: a CPU device of its own. */
  readonly device?: Device | undefined;
}

/** A checkpoint on a device: weights and caches in a store, and one executable for every step. */
export interface ModelRunner extends StepRunner {
  readonly device: Device;
  /** Native bytes: weights, caches, and the executable's intermediate values. */
  readonly memory: { readonly weights: number; readonly cache: number; readonly step: number };
}

/** Loads a checkpoint's weights and compiles the step. What was made is freed again where a part of it fails. */
export async function openModelRunner(checkpoint: Checkpoint, options: ModelRunnerOptions): Promise<ModelRunner> {
  const { limits, dtype, threads, device: given } = options;
  const made: AsyncDisposable[] = [];
  const own = <T extends AsyncDisposable>(resource: T): T => {
    made.push(resource);
    return resource;
  };
  const free = async () => {
    for (let resource = made.pop(); resource; resource = made.pop()) await resource[Symbol.asyncDispose]();
  };
  try {
    const device = given ?? own(await openDevice("cpu", threads === undefined ? {} : { threads }));
    const store = own(device.createStore());
    const weights = { dtype, encoding: "panels" } as const;
    const generation = { ...limits, cacheDtype: dtype };
    await loadWeights(store, checkpoint, weights);
    const weightBytes = store.bytes();
    allocateCache(store, checkpoint.config, generation, { weights });
    const executable = own(device.compile(generationGraph(checkpoint.config, generation, { weights }), store));
    return {
      device,
      limits: { ...limits, vocabSize: checkpoint.config.vocabSize },
      memory: { weights: weightBytes, cache: store.bytes() - weightBytes, step: executable.arenaBytes },
      async run({ ids, positions, cuSeqlens, slots, cached, pageTable, logitRows }) {
        const inputs = { ids, positions, cu_seqlens: cuSeqlens, slots, cached, page_table: pageTable, logit_rows: logitRows };
        const { logits } = await executable.run({ inputs });
        return logits as Float32Array;
      },
      [Symbol.asyncDispose]: free,
    };
  } catch (error) {
    await free();
    throw error;
  }
}
