import { type Device, type Executable, openDevice } from "@zaya/kernels";
import { allocateCache, type Checkpoint, generationGraph, loadWeights } from "@zaya/model";
import type { RunnerLimits, StepBatch, StepRunner } from "./runner.js";

/** What keys and values can be cached as: bfloat16 takes half of float32's memory, int8 a quarter. */
export type CacheDtype = "float32" | "bfloat16" | "int8";

export interface ModelRunnerOptions {
  readonly limits: Omit<RunnerLimits, "vocabSize">;
  /** Type of the matrices and of the operands of matrix products; sums are always float32. */
  readonly dtype: "float32" | "bfloat16";
  /** Type of cached keys and values. Default: `dtype`. */
  readonly cacheDtype?: CacheDtype | undefined;
  readonly threads?: number | undefined;
  /** A device to run on, which stays open afterwards. Default: a CPU device of its own. */
  readonly device?: Device | undefined;
}

/** What a step did inside. */
export interface StepInspection {
  /** Nanoseconds of all operations of a kind. */
  readonly nanoseconds: ReadonlyMap<string, number>;
  /** One entry a layer: the expert that each token chose, [T]; none in a dense model. */
  readonly experts: readonly Int32Array[];
}

/** A checkpoint on a device: weights and caches in a store, and one executable for every step. */
export interface ModelRunner extends StepRunner {
  readonly device: Device;
  /** Native bytes: weights, caches, and the executable's intermediate values. */
  readonly memory: { readonly weights: number; readonly cache: number; readonly step: number };
  /** Like `run`, and tells what happened inside. The first time it compiles an executable of its own. */
  inspect(batch: StepBatch): Promise<StepInspection>;
}

/** Loads a checkpoint's weights and compiles the step. What was made is freed again where a part of it fails. */
export async function openModelRunner(checkpoint: Checkpoint, options: ModelRunnerOptions): Promise<ModelRunner> {
  const { limits, dtype, cacheDtype = dtype, threads, device: given } = options;
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
    const weights = checkpoint.weights ?? ({ dtype, encoding: "panels" } as const);
    const generation = { ...limits, cacheDtype };
    await loadWeights(store, checkpoint, weights);
    const weightBytes = store.bytes();
    allocateCache(store, checkpoint.config, generation, { weights });
    const compile = (routing: boolean) => own(device.compile(generationGraph(checkpoint.config, generation, { weights, routing }), store));
    const executable = compile(false);
    let inspected: Executable | undefined;
    return {
      device,
      limits: { ...limits, vocabSize: checkpoint.config.vocabSize },
      memory: { weights: weightBytes, cache: store.bytes() - weightBytes, step: executable.arenaBytes },
      async run(batch) {
        const { logits } = await executable.run({ inputs: inputsOf(batch) });
        return logits as Float32Array;
      },
      async inspect(batch) {
        inspected ??= compile(true);
        const { steps } = inspected;
        const profile = await inspected.profile({ inputs: inputsOf(batch) });
        const nanoseconds = new Map<string, number>();
        profile.nanoseconds.forEach((each, i) => {
          const name = steps[i] as string;
          nanoseconds.set(name, (nanoseconds.get(name) ?? 0) + each);
        });
        const layers = Object.keys(profile.outputs).filter((name) => name.startsWith("experts.")).length;
        return { nanoseconds, experts: Array.from({ length: layers }, (_, layer) => profile.outputs[`experts.${layer}`] as Int32Array) };
      },
      [Symbol.asyncDispose]: free,
    };
  } catch (error) {
    await free();
    throw error;
  }
}

function inputsOf({ ids, positions, cuSeqlens, slots, cached, pageTable, logitRows }: StepBatch): Record<string, Int32Array> {
  return { ids, positions, cu_seqlens: cuSeqlens, slots, cached, page_table: pageTable, logit_rows: logitRows };
}
