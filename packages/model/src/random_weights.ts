import { createGraph, type Device, type Executable, maxBytes, ops, type PanelType, type TensorType, tensor } from "@zaya/kernels";
import { toBfloat16 } from "./bfloat16.js";
import { initialValues, nameStream } from "./initialise.js";
import { normalQuantiles } from "./normal_quantiles.js";
import { type TensorPart, tensorParts } from "./panels.js";
import type { ParameterSpec } from "./parameters.js";

/** Elements made at once: in float32 about as many as the last level of cache holds. */
const partElements = 2 ** 22;

/** The values of `initialise`, made by a device: for models that are too large for JavaScript's speed. */
export interface RandomWeights extends AsyncDisposable {
  /**
   * The bytes of a parameter in a type, in parts that lie one after the other; each is valid until the next but one is asked for, so that one can
   * be written while the next is made.
   */
  parts(spec: ParameterSpec, type: TensorType): AsyncGenerator<{ readonly offset: number; readonly bytes: Uint8Array }>;
}

export function openRandomWeights(device: Device, seed: number): RandomWeights {
  const store = device.createStore();
  const executables = new Map<string, Executable>();
  const buffers = [new Uint8Array(0), new Uint8Array(0)];
  let turn = 0;

  /** The bytes of a tensor of the store, in the buffer that was not used last. */
  function take(name: string, size: number): Uint8Array {
    turn = 1 - turn;
    if ((buffers[turn] as Uint8Array).length < size) buffers[turn] = new Uint8Array(size);
    return store.readBytes(name, buffers[turn]);
  }

  async function compile(name: string, std: number, { dtype, encoding }: TensorType, rows: number, columns: number): Promise<Executable> {
    const known = executables.get(name);
    if (known) return known;
    const quantiles = tensor("float32", [65536]);
    const table = `normal ${std}`;
    if (!store.has(table))
      await store.write(
        table,
        quantiles,
        Float32Array.from(normalQuantiles(), (x) => std * x),
      );
    const graph = createGraph();
    const sample = ops.randomSample(graph.read(table, quantiles), graph.input("place", tensor("int32", [4])), [rows, columns]);
    const value = encoding === "panels" ? ops.encode(sample, dtype as PanelType) : ops.cast(sample, dtype as "float32" | "bfloat16");
    store.allocate(name, value.type);
    graph.assign(name, value);
    const executable = device.compile(graph, store);
    executables.set(name, executable);
    return executable;
  }

  async function normalPart(spec: ParameterSpec, std: number, type: TensorType, part: TensorPart): Promise<Uint8Array> {
    const { matrix, row, rows, columns, bytes } = part;
    const first = ((matrix * (spec.shape.at(-2) ?? 1) + row) * columns) / 8;
    const name = `${type.encoding} ${type.dtype} ${rows} ${columns} ${std}`;
    const executable = await compile(name, std, type, rows, columns);
    const place = Int32Array.of(seed | 0, Math.floor(seed / 2 ** 32) | 0, nameStream(spec.name) | 0, first | 0);
    await executable.run({ inputs: { place } });
    return take(name, bytes);
  }

  async function whole(spec: ParameterSpec, type: TensorType): Promise<Uint8Array> {
    const values = initialValues(spec, seed);
    if (type.encoding === "panels") {
      const name = `whole ${type.dtype} ${type.shape.join(" ")}`;
      await store.write(name, type, values);
      return take(name, maxBytes(type));
    }
    const stored = type.dtype === "bfloat16" ? toBfloat16(values) : values;
    return new Uint8Array(stored.buffer, stored.byteOffset, stored.byteLength);
  }

  return {
    async *parts(spec, type) {
      const { init } = spec;
      const [columns = 1, rows = 1] = spec.shape.toReversed();
      // The sampler begins at every eighth element.
      if (init.type !== "normal" || (rows * columns) % 8 !== 0) return yield { offset: 0, bytes: await whole(spec, type) };
      for (const part of tensorParts(type, partElements))
        yield { offset: part.offset, bytes: await normalPart(spec, init.std, type, part) };
    },
    async [Symbol.asyncDispose]() {
      for (const executable of executables.values()) await executable[Symbol.asyncDispose]();
      await store[Symbol.asyncDispose]();
    },
  };
}
