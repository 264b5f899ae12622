import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { tensor } from "@zaya/kernels";
import { describe, expect, it } from "vitest";
import { fromBfloat16, toBfloat16 } from "./bfloat16.js";
import { loadCheckpoint } from "./checkpoint.js";
import { initialise } from "./initialise.js";
import { presets } from "./presets.js";
import { createCheckpointWriter, readTokenizerFiles, saveCheckpoint } from "./save.js";
import { miniature, temporaryFolder } from "./testing.js";

describe("saveCheckpoint", () => {
  it("rounds weights to bfloat16 where asked, but keeps balancing biases float32", async () => {
    await using dir = await temporaryFolder();
    await saveCheckpoint(dir.path, { config: miniature, tensors: initialise(miniature, 1), dtype: "bfloat16" });
    await using checkpoint = await loadCheckpoint(dir.path);
    for (const { name, data } of initialise(miniature, 1)) {
      const balancing = name.endsWith("balancing_biases");
      expect(checkpoint.tensors.get(name)?.dtype).toBe(balancing ? "F32" : "BF16");
      expect(await checkpoint.readFloat32(name)).toEqual(balancing ? data : fromBfloat16(toBfloat16(data)));
    }
    expect(JSON.parse(await readFile(join(dir.path, "config.json"), "utf8"))).toMatchObject({ model_type: "zaya", dtype: "bfloat16" });
  });

  it("saves the dense twin as a Llama", async () => {
    await using dir = await temporaryFolder();
    const config = {
      ...presets["dense-512"],
      vocabSize: 16,
      hiddenSize: 8,
      numLayers: 1,
      headDim: 4,
      rope: { theta: 1e4, rotaryDim: 4 },
      ffnSize: 8,
    };
    await saveCheckpoint(dir.path, { config, tensors: initialise(config, 1) });
    await using checkpoint = await loadCheckpoint(dir.path);
    expect(checkpoint.config).toEqual(config);
  });

  it("writes tokenizer files as they are, and reads them back to carry them on", async () => {
    await using dir = await temporaryFolder();
    const tokenizerFiles = { "tokenizer.json": "{}", "chat_template.jinja": Uint8Array.of(1, 2, 3) };
    await saveCheckpoint(dir.path, { config: miniature, tensors: initialise(miniature, 1), tokenizerFiles });
    expect(await readTokenizerFiles(dir.path)).toEqual({
      "tokenizer.json": Buffer.from("{}"),
      "chat_template.jinja": Buffer.from([1, 2, 3]),
    });
  });

  it("gives the same bytes again, and refuses to mix with another checkpoint unless asked to overwrite", async () => {
    await using dir = await temporaryFolder();
    const save = (seed: number, options: object = {}) =>
      saveCheckpoint(dir.path, { config: miniature, tensors: initialise(miniature, seed), ...options });
    await save(1, { shardBytes: 4000 });
    await expect(save(2)).rejects.toMatchObject({
      code: "CHECKPOINT_EXISTS",
      message: `${dir.path} holds a checkpoint already (config.json); choose another folder or ask to overwrite it`,
    });
    await save(2, { overwrite: true });
    expect(await readdir(dir.path)).toEqual(["config.json", "model.safetensors"]);
    const first = await readFile(join(dir.path, "model.safetensors"));
    await save(2, { overwrite: true });
    expect(Buffer.compare(first, await readFile(join(dir.path, "model.safetensors")))).toBe(0);
  });

  it("keeps the checkpoint that it replaces until the new one is complete", async () => {
    await using dir = await temporaryFolder();
    await saveCheckpoint(dir.path, { config: miniature, tensors: initialise(miniature, 1), tokenizerFiles: { "tokenizer.json": "{}" } });
    const old = await readdir(dir.path);
    async function* half() {
      for (const tensor of initialise(miniature, 2)) {
        yield tensor;
        if (tensor.name.includes("layers.1")) throw new Error("the disk is full");
      }
    }
    await expect(saveCheckpoint(dir.path, { config: miniature, tensors: half(), overwrite: true })).rejects.toThrow("the disk is full");
    expect(await readdir(dir.path)).toEqual(old);
    {
      await using checkpoint = await loadCheckpoint(dir.path);
      const [first] = initialise(miniature, 1);
      expect(await checkpoint.readFloat32(first?.name as string)).toEqual(first?.data);
    }
    await saveCheckpoint(dir.path, { config: miniature, tensors: initialise(miniature, 2), overwrite: true, shardBytes: 20_000 });
    const names = await readdir(dir.path);
    expect(names).not.toContain("model.safetensors");
    expect(names).not.toContain("tokenizer.json");
    await using checkpoint = await loadCheckpoint(dir.path);
    const [first] = initialise(miniature, 2);
    expect(await checkpoint.readFloat32(first?.name as string)).toEqual(first?.data);
  });

  it("lets one writer at a time into a folder", async () => {
    await using dir = await temporaryFolder();
    const writer = await createCheckpointWriter(dir.path, { config: miniature });
    for (const overwrite of [false, true])
      await expect(saveCheckpoint(dir.path, { config: miniature, tensors: initialise(miniature, 1), overwrite })).rejects.toMatchObject({
        code: "CHECKPOINT_LOCKED",
        message: expect.stringContaining(`process ${process.pid}`),
      });
    await writer.abort();
    await saveCheckpoint(dir.path, { config: miniature, tensors: initialise(miniature, 1) });
    expect(await readdir(dir.path)).toEqual(["config.json", "model.safetensors"]);
  });

  it("refuses a configuration that nobody could load, and keeps the checkpoint that it was to replace", async () => {
    await using dir = await temporaryFolder();
    await saveCheckpoint(dir.path, { config: miniature, tensors: initialise(miniature, 1) });
    const deeper = { ...miniature, numLayers: 8 };
    await expect(saveCheckpoint(dir.path, { config: deeper, tensors: [], overwrite: true })).rejects.toMatchObject({
      code: "CONFIG_INVALID",
      message: "config: 2 layer types are given for 8 layers",
    });
    const types = new Map([["model.norm.weight", tensor("float32", [16])]]);
    await expect(createCheckpointWriter(dir.path, { config: deeper, types, overwrite: true })).rejects.toMatchObject({
      code: "CONFIG_INVALID",
    });
    await using checkpoint = await loadCheckpoint(dir.path);
    expect(checkpoint.config).toEqual(miniature);
  });

  it("refuses options and values that make no checkpoint, and keeps the one that it was to replace", async () => {
    await using dir = await temporaryFolder();
    const tensors = [...initialise(miniature, 1)];
    await saveCheckpoint(dir.path, { config: miniature, tensors });
    const before = await readdir(dir.path);
    const first = tensors[0]?.name as string;
    const withFirst = (data: unknown) => [{ name: first, data: data as Float32Array }, ...tensors.slice(1)];
    const at = (element: number, value: number) => new Float32Array(640).fill(value, element, element + 1);
    for (const [options, message] of [
      [{ dtype: "float16" as "float32" }, "dtype must be float32 or bfloat16, received float16"],
      [{ shardBytes: Number.NaN }, "shardBytes must be a number ≥ 1, received NaN"],
      [{ shardBytes: "5e9" as never }, 'shardBytes must be a number ≥ 1, received "5e9"'],
      [{ tokenizerFiles: { "model.safetensors": "" } }, /^tokenizerFiles takes tokenizer.json, .*, received "model.safetensors"$/],
      [{ tokenizerFiles: { "../evil.txt": "" } }, /received "..\/evil.txt"$/],
      [
        { tokenizerFiles: { "tokenizer.json": 1 as never } },
        "tokenizerFiles: tokenizer.json takes a string or a Uint8Array, received number",
      ],
      [{ tensors: withFirst(at(7, Number.NaN)) }, `${first} holds NaN at element 7; no such checkpoint can be loaded`],
      [{ tensors: withFirst(at(8, -Infinity)) }, `${first} holds an infinity at element 8; no such checkpoint can be loaded`],
      [
        { tensors: withFirst(at(9, 3.4e38)), dtype: "bfloat16" },
        `${first} holds an infinity at element 9; no such checkpoint can be loaded`,
      ],
      [{ tensors: withFirst(new Int32Array(640)) }, `${first} is saved as float32 and needs a Float32Array, received Int32Array`],
      [{ tensors: withFirst(undefined) }, `${first} is saved as float32 and needs a Float32Array, received undefined`],
      [
        { tensors: withFirst(new Int16Array(640)), dtype: "bfloat16" },
        `${first} is saved as bfloat16 and needs a Float32Array or Uint16Array, received Int16Array`,
      ],
    ] as const)
      await expect(saveCheckpoint(dir.path, { config: miniature, tensors, overwrite: true, ...options })).rejects.toMatchObject({
        code: "INVALID_ARGUMENT",
        message: typeof message === "string" ? message : expect.stringMatching(message),
      });
    expect(await readdir(dir.path)).toEqual(before);
    await using checkpoint = await loadCheckpoint(dir.path);
    expect(await checkpoint.readFloat32(first)).toEqual(tensors[0]?.data);
  });

  it("does not leave another model's tokenizer beside the one that replaces it", async () => {
    await using dir = await temporaryFolder();
    const save = (options: object) => saveCheckpoint(dir.path, { config: miniature, tensors: initialise(miniature, 1), ...options });
    await writeFile(join(dir.path, "tokenizer.json"), "put there by its owner, for the checkpoint to come");
    await save({ tokenizerFiles: { "tokenizer_config.json": "{}" } });
    expect((await readdir(dir.path)).sort()).toEqual(["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]);
    await save({ overwrite: true, tokenizerFiles: { "chat_template.jinja": "{{ messages }}" } });
    expect((await readdir(dir.path)).sort()).toEqual(["chat_template.jinja", "config.json", "model.safetensors"]);
  });

  it("leaves no weights and no config behind when a tensor is missing, unknown or of the wrong size", async () => {
    await using dir = await temporaryFolder();
    const [first, ...others] = [...initialise(miniature, 1)];
    const save = (tensors: { name: string; data: Float32Array | Uint16Array }[]) =>
      saveCheckpoint(dir.path, { config: miniature, tensors });
    await expect(save(others)).rejects.toThrow("model.embed_tokens.weight was not written (1 of 69 tensors are missing)");
    await expect(save([{ name: "nonsense", data: new Float32Array(1) }])).rejects.toThrow("nonsense is no tensor of this checkpoint");
    await expect(save([{ name: first?.name as string, data: new Float32Array(1) }])).rejects.toThrow(
      "model.embed_tokens.weight takes 2560 bytes, received 4",
    );
    await expect(save([{ name: first?.name as string, data: new Uint16Array(640) }])).rejects.toThrow(
      "is saved as float32 and needs a Float32Array",
    );
    await expect(save([{ name: first?.name as string, data: new Float32Array(640).fill(Number.NaN) }])).rejects.toThrow(
      "holds NaN at element 0",
    );
    expect(await readdir(dir.path)).toEqual([]);
  });
});
