import { open, readFile, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { maxBytes, openDevice } from "@zaya/kernels";
import { describe, expect, it } from "vitest";
import { fromBfloat16, toBfloat16 } from "./bfloat16.js";
import { loadCheckpoint } from "./checkpoint.js";
import { initialise, initialValues } from "./initialise.js";
import { type ParameterSpec, parameters } from "./parameters.js";
import { openRandomWeights } from "./random_weights.js";
import { type RunKind, runTypes } from "./run_types.js";
import { openSafetensors } from "./safetensors.js";
import { createCheckpointWriter, saveCheckpoint } from "./save.js";
import { miniature, temporaryFolder } from "./testing.js";
import { loadWeights } from "./weights.js";

const specs = parameters(miniature);

/** A random model of seed 3 in the run layout. */
async function writeRun(dir: string, kind: RunKind): Promise<void> {
  const types = new Map(specs.map((spec) => [spec.name, runTypes(kind)(spec)]));
  const writer = await createCheckpointWriter(dir, { config: miniature, types });
  await using device = await openDevice("cpu", { threads: 1 });
  await using random = openRandomWeights(device, 3);
  for (const spec of specs) {
    for await (const { offset, bytes } of random.parts(spec, runTypes(kind)(spec))) await writer.writePart(spec.name, offset, bytes);
  }
  await writer.finish();
}

/** What the file holds of a parameter: its value, rounded where it lies in bfloat16. */
function stored(spec: ParameterSpec): Float32Array {
  const values = initialValues(spec, 3);
  return runTypes("bf16")(spec).dtype === "bfloat16" ? fromBfloat16(toBfloat16(values)) : values;
}

/** Rewrites the header of a file, which keeps its length. */
async function editHeader(path: string, edit: (header: string) => string): Promise<void> {
  const bytes = await readFile(path);
  const length = Number(bytes.readBigUInt64LE(0));
  const header = edit(bytes.toString("utf8", 8, 8 + length).trimEnd()).padEnd(length);
  expect(header.length).toBe(length);
  bytes.write(header, 8);
  await writeFile(path, bytes);
}

describe("the run layout", () => {
  it("gives back every element", async () => {
    await using dir = await temporaryFolder();
    await writeRun(dir.path, "bf16");
    await using checkpoint = await loadCheckpoint(dir.path);
    expect(checkpoint.layout).toBe("run");
    expect([...checkpoint.tensors.keys()]).toEqual(specs.map(({ name }) => name));
    for (const spec of specs) expect(await checkpoint.readFloat32(spec.name), spec.name).toEqual(stored(spec));
  });

  it("gives whole panels of a matrix alone", async () => {
    await using dir = await temporaryFolder();
    await writeRun(dir.path, "bf16");
    await using checkpoint = await loadCheckpoint(dir.path);
    const spec = specs.find(({ name }) => name.endsWith("gate_up_proj")) as ParameterSpec;
    const [experts, rows, columns] = spec.shape as [number, number, number];
    const all = stored(spec);
    const last = (experts - 1) * rows;
    expect(await checkpoint.readRows(spec.name, last, last + rows)).toEqual(all.slice(last * columns));
    await expect(checkpoint.readRows(spec.name, last + 1, last + rows)).rejects.toThrow("are not whole panels");
  });

  it.each(["run", "transformers"])("refuses rows that a tensor of the %s layout does not have", async (layout) => {
    await using dir = await temporaryFolder();
    if (layout === "run") await writeRun(dir.path, "bf16");
    else await saveCheckpoint(dir.path, { config: miniature, tensors: initialise(miniature, 1) });
    await using checkpoint = await loadCheckpoint(dir.path);
    const { name, shape } = specs.find(({ name }) => name.endsWith("down_proj")) as ParameterSpec;
    const rows = (shape[0] as number) * (shape[1] as number);
    for (const [begin, end] of [
      [0, rows + 32],
      [rows + 32, rows + 64],
      [-32, 32],
      [64, 32],
      [0.5, 32],
    ] as const)
      await expect(checkpoint.readRows(name, begin, end)).rejects.toThrow(
        `${name} has rows 0 to ${rows}; ${begin} to ${end} are not some of them`,
      );
    expect(await checkpoint.readRows(name, rows, rows)).toHaveLength(0);
  });

  it("maps every tensor, at a multiple of 64 bytes where it is long", async () => {
    await using dir = await temporaryFolder();
    await writeRun(dir.path, "bf16");
    await using checkpoint = await loadCheckpoint(dir.path);
    await using device = await openDevice("cpu", { threads: 1 });
    await using store = device.createStore();
    if (!checkpoint.weights) throw new Error("the checkpoint does not tell how its weights lie");
    await loadWeights(store, checkpoint, checkpoint.weights);
    expect(store.bytes()).toBe(0);
    for (const { name } of specs) {
      const place = checkpoint.placeOf(name);
      if (!place) throw new Error(`${name} has no place`);
      if (place.type.encoding === "panels" || maxBytes(place.type) % 64 === 0) expect(place.offset % 64, name).toBe(0);
      expect(place.offset % 4, name).toBe(0);
      expect(store.typeOf(name)).toEqual(place.type);
    }
  });

  it("is a safetensors file like any other", async () => {
    await using dir = await temporaryFolder();
    await writeRun(dir.path, "bf16");
    const file = await openSafetensors(join(dir.path, "model.safetensors"));
    expect(file.metadata).toMatchObject({ format: "pt", "zaya.format": "run", "zaya.formatVersion": "1" });
    expect(file.tensors.get("model.norm.weight")).toMatchObject({ dtype: "F32", shape: [miniature.hiddenSize] });
    expect(file.tensors.get("model.embed_tokens.weight")?.dtype).toBe("U8");
    await file.close();
  });

  it("fills a store with the same values as training wants them, unpacked", async () => {
    await using dir = await temporaryFolder();
    await writeRun(dir.path, "bf16");
    await using checkpoint = await loadCheckpoint(dir.path);
    await using device = await openDevice("cpu", { threads: 1 });
    await using store = device.createStore();
    await loadWeights(store, checkpoint, { dtype: "float32", encoding: "plain" });
    for (const spec of specs) expect(store.read(spec.name), spec.name).toEqual(stored(spec));
  });

  it.each([
    [
      "another version",
      (header: string) => header.replace('"zaya.formatVersion":"1"', '"zaya.formatVersion":"2"'),
      "run layout of version 2, this release reads 1",
    ],
    [
      "an unknown type",
      (header: string) => header.replace('\\"dtype\\":\\"bfloat16\\"', '\\"dtype\\":\\"bfloat32\\"'),
      "unknown type bfloat32",
    ],
    ["panels that are not described", (header: string) => header.replace("zaya.panels", "zaya.pannls"), "zaya.panels is not a JSON object"],
    ["another shape", (header: string) => header.replace('\\"shape\\":[', '\\"shape\\":[9,').replace(/ $/, ""), "mis-shaped tensor"],
    ["a missing name", (header: string) => header.replace("model.norm.weight", "model.norn.weight"), "missing tensor model.norm.weight"],
  ])("refuses %s", async (_, edit, message) => {
    await using dir = await temporaryFolder();
    await writeRun(dir.path, "bf16");
    await editHeader(join(dir.path, "model.safetensors"), edit);
    await expect(loadCheckpoint(dir.path)).rejects.toThrow(message);
  });

  it("refuses a truncated file", async () => {
    await using dir = await temporaryFolder();
    await writeRun(dir.path, "bf16");
    const path = join(dir.path, "model.safetensors");
    const handle = await open(path);
    const { size } = await handle.stat();
    await handle.close();
    await truncate(path, size - 1);
    await expect(loadCheckpoint(dir.path)).rejects.toThrow("truncated");
  });

  it("refuses to take the place of a checkpoint", async () => {
    await using dir = await temporaryFolder();
    await writeRun(dir.path, "bf16");
    await expect(writeRun(dir.path, "bf16")).rejects.toThrow("holds a checkpoint already");
  });
});
