import { openDevice, type Store } from "@zaya/kernels";
import {
  describe,
  initialiseParts,
  loadTokenizer,
  type ModelConfig,
  type ParameterSpec,
  type PresetName,
  parameters,
  philox,
  philoxKey,
  readTokenizerFiles,
  saveCheckpoint,
  storedType,
  type TokenizerFiles,
  type WeightStorage,
} from "@zaya/model";
import { z } from "zod";
import { balanceByForward, biasName, simulateRouters } from "./calibrate.js";
import { fail } from "./errors.js";
import { describeIssues } from "./options.js";
import { resolveConfig } from "./prepare.js";
import { fillNormalBfloat16, streamOf } from "./random.js";
import type { Batch } from "./windows.js";

/** Above this many parameters biases come from simulated routers only. */
const forwardLimit = 5e8;
const partElements = 2 ** 24;
const storage: WeightStorage = { dtype: "bfloat16", encoding: "plain" };

const Options = z.strictObject({
  model: z.union([z.string(), z.custom<ModelConfig>((value) => typeof value === "object" && value !== null && "kind" in value)]),
  /** Folder of the new checkpoint. */
  out: z.string().min(1),
  /** Folder with tokenizer.json to put into it; decides the vocabulary of a preset. */
  tokenizer: z.string().optional(),
  seed: z.int().min(0).default(1),
  dtype: z.enum(["float32", "bfloat16"]).default("bfloat16"),
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
 * Writes a random checkpoint in which experts are evenly used. A tensor at a time: memory stays below the largest tensor plus 0.2 GB.
 * Up to 5e8 parameters the biases are found by running the model on random tokens; above, by simulating its routers alone.
 *
 * @throws INVALID_OPTIONS, and what @zaya/model throws when the folder cannot be written
 */
export async function* createCheckpoint(options: CreateOptions): AsyncGenerator<CreateEvent> {
  const parsed = Options.safeParse(options);
  if (!parsed.success) fail("INVALID_OPTIONS", describeIssues(parsed.error));
  const { model, out, tokenizer, seed, dtype, overwrite, threads, signal } = parsed.data;
  const tokenizerFiles: TokenizerFiles = tokenizer === undefined ? {} : await readTokenizerFiles(tokenizer);
  if (tokenizer !== undefined) await loadTokenizer(tokenizerFiles);
  const config = await resolveConfig({ model, from: undefined, context: 1 }, tokenizer === undefined ? null : tokenizerFiles);
  const specs = parameters(config);
  const total = describe(config).parameters.total;
  const width = dtype === "float32" ? 4 : 2;
  const bytes = specs.reduce((sum, spec) => sum + elementsOf(spec) * (spec.kind === "balancing" ? 4 : width), 0);
  yield { type: "create-start", parameters: total, bytes };

  const biases = new Map<string, Float32Array>();
  if (config.kind === "zaya") {
    const byName = new Map(specs.map((spec) => [spec.name, spec]));
    const router = (layer: number, name: string) =>
      wholeTensor(byName.get(`model.layers.${layer}.mlp.gate.${name}`) as ParameterSpec, seed);
    simulateRouters(config, router, seed).forEach((found, layer) => {
      biases.set(biasName(layer), found);
    });
    const load = total <= forwardLimit ? await refine(config, specs, biases, seed, threads) : null;
    yield { type: "balance-end", method: load === null ? "simulated-routers" : "forward", maxMeanExpertLoad: load };
  } else {
    yield { type: "balance-end", method: "none", maxMeanExpertLoad: null };
  }

  // saveCheckpoint takes the tensors from this queue's generator; events about them are handed out when it is done with each.
  const events: CreateEvent[] = [];
  let wake = () => {};
  let doneBytes = 0;
  async function* tensors() {
    for (const spec of specs) {
      signal?.throwIfAborted();
      const data =
        biases.get(spec.name) ?? (dtype === "bfloat16" && spec.kind !== "balancing" ? bfloat16Tensor(spec, seed) : wholeTensor(spec, seed));
      yield { name: spec.name, data };
      doneBytes += data.byteLength;
      events.push({ type: "tensor-end", name: spec.name, doneBytes, bytes });
      wake();
    }
  }
  let done = false;
  const saving = saveCheckpoint(out, { config, tensors: tensors(), tokenizerFiles, dtype, overwrite }).finally(() => {
    done = true;
    wake();
  });
  saving.catch(() => {});
  while (!done) {
    const next = new Promise<void>((resolve) => {
      wake = resolve;
    });
    yield* events.splice(0);
    if (!done && events.length === 0) await next;
  }
  await saving;
  yield* events.splice(0);
  yield { type: "create-end", out, bytes };
}

async function refine(
  config: Extract<ModelConfig, { kind: "zaya" }>,
  specs: readonly ParameterSpec[],
  biases: Map<string, Float32Array>,
  seed: number,
  threads: number | undefined,
): Promise<number> {
  await using device = await openDevice("cpu", threads === undefined ? {} : { threads });
  await using store: Store = device.createStore();
  for (const spec of specs) {
    const type = storedType(spec, storage);
    const data = biases.get(spec.name) ?? (type.dtype === "bfloat16" ? bfloat16Tensor(spec, seed) : wholeTensor(spec, seed));
    await store.write(spec.name, type, data);
  }
  const batches = Array.from({ length: 4 }, (_, i) => randomBatch(config.vocabSize, Math.min(128, config.maxPositions), 8, seed, i));
  const load = await balanceByForward(device, store, config, { batches, rounds: 48, weights: storage });
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

function elementsOf({ shape }: ParameterSpec): number {
  return shape.reduce((product, n) => product * n, 1);
}

function wholeTensor(spec: ParameterSpec, seed: number): Float32Array {
  const whole = new Float32Array(elementsOf(spec));
  for (const { begin, data } of initialiseParts(spec, seed, partElements)) whole.set(data, begin);
  return whole;
}

/**
 * Large matrices straight in bfloat16: other numbers than in float32, from the same distribution, several times faster. The router keeps
 * the numbers with which its biases were found.
 */
function bfloat16Tensor(spec: ParameterSpec, seed: number): Uint16Array {
  const whole = new Uint16Array(elementsOf(spec));
  if (spec.init.type === "normal" && spec.kind !== "router") {
    fillNormalBfloat16(whole, spec.init.std, seed, streamOf(spec.name));
    return whole;
  }
  const bits = new Uint32Array(wholeTensor(spec, seed).buffer);
  return Uint16Array.from(bits, (word) => (word + 0x7fff + ((word >>> 16) & 1)) >>> 16); // to nearest, ties to even
}
