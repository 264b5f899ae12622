import { createGraph, type Device, type Executable, isQuantised, ops, type PanelType, type TensorType, tensor } from "@zaya/kernels";

/** Packs values as kernels read them. */
export interface Packer extends AsyncDisposable {
  /**
   * The bytes of a tensor of this type that holds these values, row by row. `importance`, [K], is how much the error of each column counts; int8 and
   * floats do not look at it.
   */
  pack(type: TensorType, values: Float32Array, importance: Float32Array | null): Promise<Uint8Array>;
}

/** Makes a packer, with one executable for each shape and type that it meets. */
export function openPacker(device: Device): Packer {
  const store = device.createStore();
  const executables = new Map<string, Executable>();

  function compile(name: string, type: TensorType, weighted: boolean): Executable {
    const known = executables.get(name);
    if (known) return known;
    const graph = createGraph();
    const values = graph.input("values", tensor("float32", type.shape));
    const importance = weighted ? graph.input("importance", tensor("float32", type.shape.slice(-1))) : null;
    store.allocate(name, type);
    graph.assign(name, ops.encode(values, type.dtype as PanelType, importance));
    const executable = device.compile(graph, store);
    executables.set(name, executable);
    return executable;
  }

  return {
    async pack(type, values, importance) {
      if (type.encoding === "plain") return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
      const weighted = importance !== null && isQuantised(type) && type.dtype !== "int8";
      const name = `${weighted ? "weighted " : ""}${type.dtype} ${type.shape.join(" ")}`;
      await compile(name, type, weighted).run({ inputs: weighted ? { values, importance } : { values } });
      return store.readBytes(name);
    },
    async [Symbol.asyncDispose]() {
      for (const executable of executables.values()) await executable[Symbol.asyncDispose]();
      await store[Symbol.asyncDispose]();
    },
  };
}
