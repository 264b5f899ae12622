import { type Device, type Executable, maxBytes, openDevice, type TensorData, ZayaError } from "@zaya/kernels";
import { type Checkpoint, generationGraph, loadWeights, parameters, storedType, type WeightStorage } from "@zaya/model";
import { allocateCache } from "@zaya/model/internal";
import { expectRoom } from "./expect_room.js";
import { type WeightProducts, weightProducts } from "./products.js";
import { type EngineMemory, type LogitRow, logitChunk, numRanked, type RunnerLimits, type StepBatch, type StepRunner } from "./runner.js";

/** What keys and values can be cached as: bfloat16 takes half of float32's memory, int8 a quarter. */
export type CacheDtype = "float32" | "bfloat16" | "int8";

export interface ModelRunnerOptions {
  readonly limits: Omit<RunnerLimits, "vocabSize">;
  /** Type of the matrices and of the operands of matrix products; sums are always float32. bfloat16 for the run layout, which has types of its own. */
  readonly dtype: "float32" | "bfloat16";
  /** Type of cached keys and values. Default: `dtype`. */
  readonly cacheDtype?: CacheDtype | undefined;
  readonly threads?: number | undefined;
  /** A device to run on, which stays open afterwards unless `closesDevice`. Default: a CPU device of its own. */
  readonly device?: Device | undefined;
  /** Whether a given device is closed with the runner, or where opening fails. Default false. */
  readonly closesDevice?: boolean | undefined;
  /** Whether mapped weights are brought into huge pages. Default false. */
  readonly hugePages?: boolean | undefined;
  /** Told while weights are read. */
  readonly onProgress?: ((doneBytes: number, totalBytes: number) => void) | undefined;
  /** Stops reading weights, between two tensors. */
  readonly signal?: AbortSignal | undefined;
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
  readonly weights: WeightStorage;
  /** How each kind of weights is multiplied. */
  readonly products: readonly WeightProducts[];
  readonly memory: EngineMemory;
  /** Like `run`, and tells what happened inside. The first time it compiles an executable of its own. */
  inspect(batch: StepBatch): Promise<StepInspection>;
}

/**
 * Loads a checkpoint's weights and compiles the step. What was made is freed again where a part of it fails.
 * @throws INVALID_ARGUMENT where they cannot fit into memory, or float32 is wanted of packed ones, what `loadWeights` throws, or the signal's reason
 */
export async function openModelRunner(checkpoint: Checkpoint, options: ModelRunnerOptions): Promise<ModelRunner> {
  const {
    limits,
    dtype,
    cacheDtype = dtype,
    threads,
    device: given,
    closesDevice = false,
    hugePages = false,
    onProgress,
    signal,
  } = options;
  const made: AsyncDisposable[] = [];
  const own = <T extends AsyncDisposable>(resource: T): T => {
    made.push(resource);
    return resource;
  };
  const free = async () => {
    for (let resource = made.pop(); resource; resource = made.pop()) await resource[Symbol.asyncDispose]();
  };
  try {
    if (given && closesDevice) own(given);
    if (checkpoint.weights && dtype !== checkpoint.weights.dtype)
      throw new ZayaError(
        "INVALID_ARGUMENT",
        `dtype is ${dtype}, but the weights of ${checkpoint.dir} are packed already, in types of their own; leave it out (cacheDtype is that of keys and values)`,
      );
    const device = given ?? own(await openDevice("cpu", threads === undefined ? {} : { threads }));
    const store = own(device.createStore());
    const weights: WeightStorage = checkpoint.weights ?? { dtype, encoding: "panels" };
    const generation = { ...limits, cacheDtype };
    expectRoom(checkpoint, weights, cacheDtype, limits);
    await loadWeights(store, checkpoint, { ...weights, hugePages, ...(onProgress ? { onProgress } : {}), ...(signal ? { signal } : {}) });
    const weightBytes = store.bytes();
    const allWeightBytes = parameters(checkpoint.config).reduce((sum, spec) => sum + maxBytes(storedType(spec, weights)), 0);
    allocateCache(store, checkpoint.config, generation, { weights });
    const compile = (routing: boolean) =>
      own(device.compile(generationGraph(checkpoint.config, generation, { weights, routing, ranked: numRanked }), store));
    const executable = compile(false);
    let inspected: Executable | undefined;
    return {
      device,
      weights,
      products: weightProducts(checkpoint.config, executable.products),
      limits: { ...limits, vocabSize: checkpoint.config.vocabSize },
      memory: {
        weights: weightBytes,
        mapped: allWeightBytes - weightBytes,
        mappedHuge: store.hugeBytes(),
        cache: store.bytes() - weightBytes,
        step: executable.arenaBytes,
      },
      async run(batch) {
        // The logits stay on the device; a row of them is a megabyte.
        const top = await executable.run({ inputs: inputsOf(batch), outputs: ["top_values", "top_ids", "top_sums", "top_masses"] });
        return Array.from(batch.logitRows, (_, r) => logitRow(executable, checkpoint.config.vocabSize, top, r));
      },
      async inspect(batch) {
        inspected ??= compile(true);
        const layers = checkpoint.config.kind === "zaya" ? checkpoint.config.numLayers : 0;
        const routed = Array.from({ length: layers }, (_, layer) => `experts.${layer}`);
        const { steps } = inspected;
        const profile = await inspected.profile({ inputs: inputsOf(batch), outputs: routed });
        const nanoseconds = new Map<string, number>();
        profile.nanoseconds.forEach((each, i) => {
          const name = steps[i] as string;
          nanoseconds.set(name, (nanoseconds.get(name) ?? 0) + each);
        });
        return { nanoseconds, experts: routed.map((name) => profile.outputs[name] as Int32Array) };
      },
      [Symbol.asyncDispose]: free,
    };
  } catch (error) {
    await free();
    throw error;
  }
}

function inputsOf({ ids, positions, cuSeqlens, slots, cached, pageTable, logitRows, temperatures }: StepBatch): Record<string, TensorData> {
  return { ids, positions, cu_seqlens: cuSeqlens, slots, cached, page_table: pageTable, logit_rows: logitRows, temperatures };
}

/** Row r of a step's outputs. */
function logitRow(executable: Executable, size: number, top: Readonly<Record<string, TensorData>>, r: number): LogitRow {
  const k = Math.min(numRanked, size);
  const chunks = Math.ceil(size / logitChunk);
  return {
    size,
    values: top.top_values?.subarray(r * k, (r + 1) * k) as Float32Array,
    ids: top.top_ids?.subarray(r * k, (r + 1) * k) as Int32Array,
    sum: top.top_sums?.[2 * r] as number,
    temperedSum: top.top_sums?.[2 * r + 1] as number,
    masses: top.top_masses?.subarray(r * chunks, (r + 1) * chunks) as Float32Array,
    logits: (begin = 0, end = size) => executable.read("logits", r * size + begin, r * size + end) as Float32Array,
  };
}
