import { type Device, maxBytes, openDevice, type Store, type TensorType, tensor } from "@zaya/kernels";
import {
  describe,
  loadTokenizer,
  type ModelConfig,
  type ParameterSpec,
  type PresetName,
  parameters,
  runKinds,
  runTypes,
  storedType,
  type TokenizerFiles,
  type WeightStorage,
} from "@zaya/model";
import { createCheckpointWriter, initialValues, openRandomWeights, philox, philoxKey, type RandomWeights } from "@zaya/model/internal";
import { z } from "zod";
import { balanceByForward, biasName, simulateRouters } from "./calibrate.js";
import { checkOptions } from "./check_options.js";
import { fail } from "./errors.js";
import { Model } from "./options.js";
import { resolveConfig } from "./prepare.js";
import { tokenizerOf } from "./tokenizer_files.js";
import type { Batch } from "./windows.js";

/** Above this many parameters biases come from simulated routers only. */
const forwardLimit = 5e8;
const storage: WeightStorage = { dtype: "bfloat16", encoding: "plain" };

const Options = z.strictObject({
  model: Model,
  /** Folder of the new checkpoint. */
  out: z.string().min(1, "name a folder"),
  /** Folder with tokenizer.json to put into it; decides the vocabulary of a preset. */
  tokenizer: z.string().optional(),
  seed: z.int().min(0).default(1),
  dtype: z.enum(["float32", "bfloat16"]).default("bfloat16"),
  /** Write it as kernels read it, to be memory-mapped, with matrices of this kind. Default: the transformers layout, in `dtype`. */
  to: z.enum(runKinds).optional(),
  overwrite: z.boolean().default(false),
  threads: z.int().min(1).optional(),
  signal: z.instanceof(AbortSignal).optional(),
});
export type CreateOptions = Omit<z.input<typeof Options>, "model"> & { readonly model: PresetName | ModelConfig | (string & {}) };

export type CreateEvent =
  | { readonly type: "create-start"; readonly parameters: number; readonly bytes: number }
  /** How the balancing biases were found, and max/mean expert load of the worst layer where it was measured. */
  | { readonly type: "balance-end"; readonly method: "forward" | "simulated-routers" | "none"; readonly maxMeanExpertLoad: number | null }
  | { readonly type: "tensor-end"; readonly name: string; readonly doneBytes: number; readonly bytes: number }
  | { readonly type: "create-end"; readonly out: string; readonly bytes: number };

/**
 * Writes a random checkpoint in which experts are evenly used, in parts: it takes 0.3 GB of memory, whatever the model.
 * Up to 5e8 parameters the biases are found by running the model on random tokens; above, by simulating its routers alone.
 *
 * @throws INVALID_OPTIONS, and what @zaya/model throws when the folder cannot be written
 */
export async function* createCheckpoint(options: CreateOptions): AsyncGenerator<CreateEvent> {
  const { model, out, tokenizer, seed, dtype, to, overwrite, threads, signal } = checkOptions(Options, options);
  if (to !== undefined && options.dtype !== undefined)
    fail("INVALID_OPTIONS", "dtype and to are both given, and the run layout has types of its own; choose one");
  const tokenizerFiles: TokenizerFiles = tokenizer === undefined ? {} : await tokenizerOf(tokenizer);
  if (tokenizer !== undefined) await loadTokenizer(tokenizerFiles);
  const config = await resolveConfig({ model, from: undefined, context: 1 }, tokenizer === undefined ? null : tokenizerFiles);
  const specs = parameters(config);
  const typeOf = (spec: ParameterSpec): TensorType =>
    to ? runTypes(to)(spec) : tensor(spec.kind === "balancing" ? "float32" : dtype, spec.shape);
  const bytes = specs.reduce((sum, spec) => sum + maxBytes(typeOf(spec)), 0);
  yield { type: "create-start", parameters: describe(config).parameters.total, bytes };

  await using device = await openDevice("cpu", threads === undefined ? {} : { threads });
  await using random = openRandomWeights(device, seed);
  const types = to && new Map(specs.map((spec) => [spec.name, typeOf(spec)]));
  const writer = await createCheckpointWriter(out, { config, types, dtype, tokenizerFiles, overwrite });
  let finished = false;
  try {
    const { biases, method, maxMeanExpertLoad } = await balance(config, specs, { seed, device, random, signal });
    yield { type: "balance-end", method, maxMeanExpertLoad };
    let doneBytes = 0;
    let written = Promise.resolve();
    for (const spec of specs) {
      signal?.throwIfAborted();
      for await (const { offset, bytes: part } of partsOf(spec, typeOf(spec), biases, random)) {
        await written;
        written = writer.writePart(spec.name, offset, part);
        written.catch(() => {}); // told when it is awaited, with the next part
        doneBytes += part.length;
      }
      await written;
      yield { type: "tensor-end", name: spec.name, doneBytes, bytes };
    }
    await writer.finish();
    finished = true;
  } finally {
    if (!finished) await writer.abort(); // also when the caller leaves the loop
  }
  yield { type: "create-end", out, bytes };
}

/** What makes the random weights of a checkpoint. */
interface Sources {
  readonly seed: number;
  readonly device: Device;
  readonly random: RandomWeights;
  readonly signal: AbortSignal | undefined;
}

type Biases = ReadonlyMap<string, Float32Array>;

async function* partsOf(spec: ParameterSpec, type: TensorType, biases: Biases, random: RandomWeights) {
  const bias = biases.get(spec.name);
  if (bias) yield { offset: 0, bytes: new Uint8Array(bias.buffer, bias.byteOffset, bias.byteLength) };
  else yield* random.parts(spec, type);
}

/** Balancing biases by name, and how they were found. */
async function balance(
  config: ModelConfig,
  specs: readonly ParameterSpec[],
  sources: Sources,
): Promise<{ biases: Biases } & Pick<Extract<CreateEvent, { type: "balance-end" }>, "method" | "maxMeanExpertLoad">> {
  const biases = new Map<string, Float32Array>();
  if (config.kind !== "zaya") return { biases, method: "none", maxMeanExpertLoad: null };
  const byName = new Map(specs.map((spec) => [spec.name, spec]));
  const router = (layer: number, name: string) =>
    initialValues(byName.get(`model.layers.${layer}.mlp.gate.${name}`) as ParameterSpec, sources.seed);
  simulateRouters(config, router, sources.seed).forEach((found, layer) => {
    biases.set(biasName(layer), found);
  });
  if (describe(config).parameters.total > forwardLimit) return { biases, method: "simulated-routers", maxMeanExpertLoad: null };
  return { biases, method: "forward", maxMeanExpertLoad: await refine(config, specs, biases, sources) };
}

async function refine(
  config: Extract<ModelConfig, { kind: "zaya" }>,
  specs: readonly ParameterSpec[],
  biases: Map<string, Float32Array>,
  { seed, device, random, signal }: Sources,
): Promise<number> {
  await using store: Store = device.createStore();
  for (const spec of specs) {
    const type = storedType(spec, storage);
    store.allocate(spec.name, type);
    const width = type.dtype === "bfloat16" ? 2 : 4;
    for await (const { offset, bytes } of partsOf(spec, type, biases, random)) {
      const elements = width === 2 ? Uint16Array : Float32Array;
      store.writePart(spec.name, offset / width, new elements(bytes.buffer as ArrayBuffer, bytes.byteOffset, bytes.length / width));
    }
  }
  const batches = Array.from({ length: 4 }, (_, i) => randomBatch(config.vocabSize, Math.min(128, config.maxPositions), 8, seed, i));
  const load = await balanceByForward(device, store, config, { batches, rounds: 48, weights: storage, signal });
  for (const name of biases.keys()) biases.set(name, store.read(name) as Float32Array);
  return load;
}

/** Uniformly random tokens in some sequences of a length, each to be predicted from those before it. */
export function randomBatch(vocabSize: number, length: number, sequences: number, seed: number, stream: number): Batch {
  const words = new Uint32Array(4);
  const tokens = Int32Array.from({ length: sequences * (length + 1) }, (_, i) => {
    if (i % 4 === 0) philox(i / 4, 0, stream, 4, philoxKey(seed), words);
    return (words[i % 4] as number) % vocabSize;
  });
  const place = (t: number) => t + Math.floor(t / length);
  const T = sequences * length;
  return {
    ids: Int32Array.from({ length: T }, (_, t) => tokens[place(t)] as number),
    positions: Int32Array.from({ length: T }, (_, t) => t % length),
    labels: Int32Array.from({ length: T }, (_, t) => tokens[place(t) + 1] as number),
    cuSeqlens: Int32Array.from({ length: sequences + 1 }, (_, s) => s * length),
  };
}
