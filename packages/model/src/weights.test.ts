import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { openDevice, type Store, type TensorData, type TensorType } from "@zaya/kernels";
import { describe, expect, it } from "vitest";
import { toBfloat16 } from "./bfloat16.js";
import { loadCheckpoint } from "./checkpoint.js";
import { initialise } from "./initialise.js";
import { parameters } from "./parameters.js";
import { openSafetensors, type StoredTensor } from "./safetensors.js";
import { saveCheckpoint } from "./save.js";
import { miniature, temporaryFolder } from "./testing.js";
import { loadWeights } from "./weights.js";

/** Keeps what is written. */
function recordingStore() {
  const written = new Map<string, { type: TensorType; data: TensorData }>();
  const write: Store["write"] = async (name, type, data) => {
    written.set(name, { type, data: data.slice() }); // what is passed in may be overwritten afterwards
  };
  return { written, store: { write } as Store };
}

const values = new Map([...initialise(miniature, 3)].map(({ name, data }) => [name, data]));

describe("loadWeights", () => {
  it.each(["float32", "bfloat16"] as const)(
    "writes every parameter of a %s checkpoint under its name, matrices in the asked type",
    async (stored) => {
      await using dir = await temporaryFolder();
      await saveCheckpoint(dir.path, { config: miniature, tensors: initialise(miniature, 3), dtype: stored });
      await using checkpoint = await loadCheckpoint(dir.path);
      const { store, written } = recordingStore();
      await loadWeights(store, checkpoint, { dtype: "bfloat16", encoding: "panels" });
      expect([...written.keys()]).toEqual(parameters(miniature).map(({ name }) => name));
      for (const spec of parameters(miniature)) {
        const { type, data } = written.get(spec.name) ?? {};
        const precise = ["vector", "balancing", "router", "convolution"].includes(spec.kind);
        const matrix = !["vector", "balancing"].includes(spec.kind);
        const [C = 0, H = 1] = spec.shape;
        expect(type, spec.name).toMatchObject({
          dtype: precise ? "float32" : "bfloat16",
          shape: spec.kind === "convolution" ? [C / H, H, 2 * H] : spec.shape,
          encoding: matrix ? "panels" : "plain",
        });
        if (precise) expect(data).toBeInstanceOf(Float32Array);
        else if (stored === "float32")
          expect(data, spec.name).toEqual(values.get(spec.name)); // rounded while it is packed
        else expect(data, spec.name).toEqual(toBfloat16(values.get(spec.name) as Float32Array));
      }
    },
  );

  it("gives float32 and float64 stores the checkpoint's values exactly", async () => {
    await using dir = await temporaryFolder();
    await saveCheckpoint(dir.path, { config: miniature, tensors: initialise(miniature, 3) });
    await using checkpoint = await loadCheckpoint(dir.path);
    for (const dtype of ["float32", "float64"] as const) {
      const { store, written } = recordingStore();
      await loadWeights(store, checkpoint, { dtype, encoding: "plain" });
      for (const [name, data] of values) {
        expect(written.get(name)?.type.dtype).toBe(dtype);
        expect(written.get(name)?.data).toEqual(dtype === "float32" ? data : Float64Array.from(data));
      }
    }
  });

  it("maps tensors that lie in the file as the store wants them, and copies the others", async () => {
    await using dir = await temporaryFolder();
    await saveCheckpoint(dir.path, { config: miniature, tensors: initialise(miniature, 3), dtype: "bfloat16" });
    await using checkpoint = await loadCheckpoint(dir.path);
    const { store, written } = recordingStore();
    const mapped = new Map<string, TensorType>();
    const prefetched: string[] = [];
    const progress: number[] = [];
    store.map = (name, type) => mapped.set(name, type);
    store.prefetch = async (name, options) => {
      expect(options?.hugePages).toBe(true);
      prefetched.push(name);
    };
    await loadWeights(store, checkpoint, {
      dtype: "bfloat16",
      encoding: "plain",
      map: true,
      hugePages: true,
      onProgress: () => progress.push(prefetched.length),
    });
    const balancing = parameters(miniature).filter(({ kind }) => kind === "balancing");
    for (const { name } of balancing) expect(mapped.get(name)?.dtype).toBe("float32");
    expect(mapped.get("model.layers.0.mlp.experts.down_proj")?.dtype).toBe("bfloat16");
    expect(written.get("model.norm.weight")?.type.dtype).toBe("float32");
    expect(mapped.size + written.size).toBe(parameters(miniature).length);
    expect(prefetched).toEqual([...mapped.keys()]);
    const names = parameters(miniature).map(({ name }) => name);
    expect(progress, "told after a tensor is in memory").toEqual(
      names.map((_, i) => names.slice(0, i + 1).filter((name) => mapped.has(name)).length),
    );
  });

  it.each([false, true])("refuses NaN by name where plain tensors are mapped: %s", async (map) => {
    await using dir = await temporaryFolder();
    await saveCheckpoint(dir.path, { config: miniature, tensors: initialise(miniature, 3) });
    const path = join(dir.path, "model.safetensors");
    const file = await openSafetensors(path);
    const { offset } = file.tensors.get("model.norm.weight") as StoredTensor;
    await file.close();
    const bytes = await readFile(path);
    bytes.writeFloatLE(Number.NaN, offset + 4);
    await writeFile(path, bytes);
    await using checkpoint = await loadCheckpoint(dir.path);
    await using device = await openDevice("cpu");
    const loading = loadWeights(device.createStore(), checkpoint, { dtype: "bfloat16", encoding: "panels", map });
    await expect(loading).rejects.toMatchObject({
      code: "CHECKPOINT_INVALID",
      message: expect.stringContaining("model.norm.weight holds NaN at element 1"),
    });
  });

  it("fills a device's store, mapped or copied, with the same values", async () => {
    await using dir = await temporaryFolder();
    await saveCheckpoint(dir.path, { config: miniature, tensors: initialise(miniature, 3) });
    await using checkpoint = await loadCheckpoint(dir.path);
    for (const map of [false, true]) {
      await using device = await openDevice("cpu", { threads: 1 });
      await using store = device.createStore();
      await loadWeights(store, checkpoint, { dtype: "float32", encoding: "plain", map });
      for (const [name, data] of values) expect(store.read(name), name).toEqual(data);
      if (map) expect(store.bytes()).toBe(0);
    }
  });

  it("stops between tensors with the signal's reason", async () => {
    await using dir = await temporaryFolder();
    await saveCheckpoint(dir.path, { config: miniature, tensors: initialise(miniature, 3) });
    await using checkpoint = await loadCheckpoint(dir.path);
    const { store, written } = recordingStore();
    const options = { dtype: "float32", encoding: "plain", signal: AbortSignal.abort(new Error("enough")) } as const;
    await expect(loadWeights(store, checkpoint, options)).rejects.toThrow("enough");
    expect(written.size).toBe(0);
  });
});
