import { existsSync } from "node:fs";
import { mkdir, open, readFile, rename, rm, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { toBfloat16 } from "./bfloat16.js";
import { loadCheckpoint } from "./checkpoint.js";
import type { ZayaConfig } from "./config.js";
import { configJson } from "./config_json.js";
import { initialise } from "./initialise.js";
import { originalLayout } from "./original_layout.js";
import { parameters } from "./parameters.js";
import { openSafetensors, type SafetensorsEntry } from "./safetensors.js";
import { createSafetensors } from "./safetensors_writer.js";
import { saveCheckpoint } from "./save.js";
import { miniature, originalConfigJson, temporaryFolder, writeOriginalCheckpoint } from "./testing.js";

const values = new Map([...initialise(miniature, 3)].map(({ name, data }) => [name, data]));

async function expectValues(dir: string): Promise<void> {
  await using checkpoint = await loadCheckpoint(dir);
  expect([...checkpoint.tensors.keys()]).toEqual(parameters(miniature).map(({ name }) => name));
  for (const [name, data] of values) expect(await checkpoint.readFloat32(name), name).toEqual(data);
}

describe("loadCheckpoint", () => {
  it("reads the transformers layout, in one file or several", async () => {
    for (const options of [{}, { shardBytes: 4000 }]) {
      await using dir = await temporaryFolder();
      await saveCheckpoint(dir.path, { config: miniature, tensors: initialise(miniature, 3), ...options });
      await expectValues(dir.path);
    }
  });

  it("reads the original layout, in one file or several, stacking the experts", async () => {
    for (const options of [{}, { shardBytes: 4000 }]) {
      await using dir = await temporaryFolder();
      await writeOriginalCheckpoint(dir.path, miniature, 3, options);
      await expectValues(dir.path);
    }
  });

  it("finds the query heads in the rows of linear_q where the config does not tell them", async () => {
    await using dir = await temporaryFolder();
    await writeOriginalCheckpoint(dir.path, miniature, 3);
    await writeFile(join(dir.path, "config.json"), JSON.stringify({ ...originalConfigJson(miniature), cca_num_q_heads: undefined }));
    await expectValues(dir.path);
  });

  it("reads bfloat16 and float16", async () => {
    await using dir = await temporaryFolder();
    const entries = parameters(miniature).map(
      ({ name, shape, kind }): SafetensorsEntry => ({ name, shape, dtype: kind === "expert" ? "BF16" : "F16" }),
    );
    const writer = await createSafetensors(dir.path, entries);
    for (const { name, dtype, shape } of entries) {
      const length = shape.reduce((product, n) => product * n, 1);
      const halves = dtype === "F16" ? new Uint16Array(length).fill(0x3555) : toBfloat16(values.get(name) as Float32Array);
      await writer.write(name, new Uint8Array(halves.buffer));
    }
    await writer.finish();
    await writeFile(join(dir.path, "config.json"), JSON.stringify(configJson(miniature)));
    await using checkpoint = await loadCheckpoint(dir.path);
    expect((await checkpoint.readFloat32("model.norm.weight"))[0]).toBe(0.333251953125);
    const name = "model.layers.1.mlp.experts.down_proj";
    const read = await checkpoint.readFloat32(name);
    expect(toBfloat16(read)).toEqual(toBfloat16(values.get(name) as Float32Array));
  });

  it("tells where a tensor lies, and that stacked experts lie nowhere in one piece", async () => {
    await using dir = await temporaryFolder();
    await writeOriginalCheckpoint(dir.path, miniature, 3);
    await using checkpoint = await loadCheckpoint(dir.path);
    const place = checkpoint.placeOf("model.norm.weight");
    const file = await readFile(place?.path as string);
    expect(file.readFloatLE(place?.offset)).toBe(values.get("model.norm.weight")?.[0]);
    expect(checkpoint.placeOf("model.layers.0.mlp.experts.down_proj")).toBeNull();
  });

  it("rejects reads after it was disposed", async () => {
    await using dir = await temporaryFolder();
    await writeOriginalCheckpoint(dir.path, miniature, 3);
    const checkpoint = await loadCheckpoint(dir.path);
    await checkpoint[Symbol.asyncDispose]();
    await expect(checkpoint.read("model.norm.weight")).rejects.toMatchObject({ code: "DISPOSED" });
  });
});

/** Writes entries filled with ones. */
async function writeOnes(dir: string, entries: readonly SafetensorsEntry[], config: object = configJson(miniature)): Promise<void> {
  const writer = await createSafetensors(dir, entries);
  for (const { name, shape } of entries) {
    const ones = new Float32Array(shape.reduce((product, n) => product * n, 1)).fill(1);
    await writer.write(name, new Uint8Array(ones.buffer));
  }
  await writer.finish();
  await writeFile(join(dir, "config.json"), JSON.stringify(config));
}

const native = parameters(miniature).map(({ name, shape }): SafetensorsEntry => ({ name, shape, dtype: "F32" }));
const original = [...originalLayout(miniature).values()].flatMap(({ names, shape }) =>
  names.map((name): SafetensorsEntry => ({ name, shape, dtype: "F32" })),
);
const q = "model.layers.1.self_attn.qkv_proj.q_proj.weight";
const fc1 = "model.layers.3.zaya_block.experts.local_experts.2.linear_fc1.weight";

describe("loadCheckpoint refuses by name", () => {
  it("a head beside an embedding that is the head, and says what to do", async () => {
    await using dir = await temporaryFolder();
    await writeOnes(dir.path, native, configJson({ ...miniature, tieWordEmbeddings: true }));
    await expect(loadCheckpoint(dir.path)).rejects.toMatchObject({
      code: "CHECKPOINT_INVALID",
      message: `${dir.path}: unknown tensor lm_head.weight: the configured head is the embedding; remove the tensor, or set "tie_word_embeddings": false in config.json to use it`,
    });
    await writeFile(join(dir.path, "config.json"), JSON.stringify(configJson(miniature)));
    await using checkpoint = await loadCheckpoint(dir.path);
    expect(checkpoint.tensors.has("lm_head.weight")).toBe(true);
  });

  it.each<[string, readonly SafetensorsEntry[], string]>([
    ["a missing tensor", native.filter(({ name }) => name !== q), `missing tensor ${q}`],
    [
      "an extra tensor",
      [...native, { name: "model.layers.2.mlp.extra", shape: [1], dtype: "F32" }],
      "unknown tensor model.layers.2.mlp.extra: the configured model has no such parameter",
    ],
    [
      "a mis-shaped tensor",
      native.map((entry) => (entry.name === q ? { ...entry, shape: [16, 15] } : entry)),
      `mis-shaped tensor ${q}: expected [16, 16], received [16, 15]`,
    ],
    [
      "a tensor of integers",
      native.map((entry) => (entry.name === q ? { ...entry, dtype: "I32" } : entry)),
      `tensor ${q} has type I32, expected F32, BF16 or F16`,
    ],
    ["a missing expert", original.filter(({ name }) => name !== fc1), `missing tensor ${fc1}`],
    [
      "a mis-shaped expert",
      original.map((entry) => (entry.name === fc1 ? { ...entry, shape: [16, 17] } : entry)),
      `mis-shaped tensor ${fc1}: expected [16, 16], received [16, 17]`,
    ],
    ["several problems at once", native.slice(2), "missing tensor model.embed_tokens.weight (and 1 more problems)"],
  ])("%s", async (_, entries, problem) => {
    await using dir = await temporaryFolder();
    await writeOnes(dir.path, entries);
    await expect(loadCheckpoint(dir.path)).rejects.toMatchObject({ code: "CHECKPOINT_INVALID", message: `${dir.path}: ${problem}` });
  });

  it.each<[string, readonly SafetensorsEntry[], string]>([
    [
      "names of both layouts",
      [...native, original[3] as SafetensorsEntry],
      "names of both layouts: model.layers.0.input_layernorm.weight (transformers) and model.layers.0.input_norm.weight (original)",
    ],
    [
      "names of neither layout",
      [{ name: "wte.weight", shape: [1], dtype: "F32" }],
      "unknown layout: wte.weight is a name of neither transformers nor original ZAYA checkpoints",
    ],
  ])("%s", async (_, entries, problem) => {
    await using dir = await temporaryFolder();
    await writeOnes(dir.path, entries);
    await expect(loadCheckpoint(dir.path)).rejects.toMatchObject({ code: "CHECKPOINT_INVALID", message: `${dir.path}: ${problem}` });
  });

  it.each([
    [Number.NaN, "NaN"],
    [Number.NEGATIVE_INFINITY, "an infinity"],
  ])("a weight that is %d, when it is read", async (value, what) => {
    await using dir = await temporaryFolder();
    await writeOriginalCheckpoint(dir.path, miniature, 3);
    const file = await openSafetensors(join(dir.path, "model.safetensors"));
    const offset = (file.tensors.get(fc1)?.offset ?? 0) + 4 * 17;
    await file.close();
    const handle = await open(join(dir.path, "model.safetensors"), "r+");
    await handle.write(new Uint8Array(Float32Array.of(value).buffer), 0, 4, offset);
    await handle.close();
    await using checkpoint = await loadCheckpoint(dir.path);
    const message = `${dir.path}: tensor ${fc1} holds ${what} at element 17`;
    await expect(checkpoint.read("model.layers.1.mlp.experts.gate_up_proj")).rejects.toMatchObject({ code: "CHECKPOINT_INVALID", message });
    await expect(checkpoint.read("model.layers.0.mlp.experts.gate_up_proj")).resolves.toBeInstanceOf(Uint8Array);
  });

  it("a truncated file", async () => {
    await using dir = await temporaryFolder();
    await writeOriginalCheckpoint(dir.path, miniature, 3);
    await truncate(join(dir.path, "model.safetensors"), 30_000);
    await expect(loadCheckpoint(dir.path)).rejects.toMatchObject({
      code: "CHECKPOINT_INVALID",
      message: expect.stringMatching(/^\/.*\/model\.safetensors: truncated: \S+ ends at byte \d+, the file has 30000$/),
    });
  });

  it("a configuration that is none of ZAYA's, with its folder", async () => {
    await using dir = await temporaryFolder();
    await writeOriginalCheckpoint(dir.path, miniature, 3);
    await writeFile(join(dir.path, "config.json"), JSON.stringify({ model_type: "gpt2" }));
    await expect(loadCheckpoint(dir.path)).rejects.toMatchObject({
      code: "CONFIG_INVALID",
      message: `${dir.path}/config.json: expected model_type "zaya" (or "llama" for a dense model), received "gpt2"`,
    });
  });

  it("a folder without config or weights", async () => {
    await using dir = await temporaryFolder();
    await expect(loadCheckpoint(dir.path)).rejects.toMatchObject({
      code: "CONFIG_INVALID",
      message: `${dir.path}/config.json: no such file; give the folder of a checkpoint`,
    });
    await mkdir(join(dir.path, "latest"));
    await writeFile(join(dir.path, "latest", "config.json"), "{}");
    await expect(loadCheckpoint(dir.path)).rejects.toMatchObject({
      code: "CONFIG_INVALID",
      message: `${dir.path}/config.json: no such file; the checkpoint is in ${dir.path}/latest`,
    });
    await writeFile(join(dir.path, "config.json"), "{ not json");
    await expect(loadCheckpoint(dir.path)).rejects.toMatchObject({
      code: "CONFIG_INVALID",
      message: expect.stringMatching(/config\.json: not JSON: /),
    });
    await writeFile(join(dir.path, "config.json"), "{}");
    await expect(loadCheckpoint(dir.path)).rejects.toMatchObject({
      code: "CHECKPOINT_INVALID",
      message: `${dir.path}: neither model.safetensors nor model.safetensors.index.json is there`,
    });
  });
});

describe("loadCheckpoint holds shards against their index", () => {
  async function sharded() {
    const dir = await temporaryFolder();
    await saveCheckpoint(dir.path, { config: miniature, tensors: initialise(miniature, 3), shardBytes: 20_000 });
    const indexPath = join(dir.path, "model.safetensors.index.json");
    const index = JSON.parse(await readFile(indexPath, "utf8")) as { weight_map: Record<string, string> };
    const edit = async (change: Record<string, string | undefined>): Promise<void> =>
      writeFile(indexPath, JSON.stringify({ ...index, weight_map: { ...index.weight_map, ...change } }));
    return { dir, index, indexPath, edit, files: [...new Set(Object.values(index.weight_map))] };
  }

  it("names a file that is missing", async () => {
    const { dir, files } = await sharded();
    await using _ = dir;
    await rm(join(dir.path, files[1] as string));
    await expect(loadCheckpoint(dir.path)).rejects.toThrow(`${files[1]}: no such file`);
  });

  it("names a tensor that is in another file than the index says, in none, or in two", async () => {
    const { dir, edit, files } = await sharded();
    await using _ = dir;
    const first = "model.embed_tokens.weight";
    await edit({ [first]: files[1] as string });
    await expect(loadCheckpoint(dir.path)).rejects.toThrow(`${first} is in ${files[0]}, model.safetensors.index.json says ${files[1]}`);
    await edit({ [first]: undefined as unknown as string });
    await expect(loadCheckpoint(dir.path)).rejects.toThrow(`${files[0]}: ${first} is not in model.safetensors.index.json`);
    await edit({ "model.other": files[0] as string });
    await expect(loadCheckpoint(dir.path)).rejects.toThrow(`${files[0]}: model.other is missing, model.safetensors.index.json names it`);
    await rename(join(dir.path, files[1] as string), join(dir.path, "kept"));
    await writeFile(join(dir.path, files[1] as string), await readFile(join(dir.path, files[0] as string)));
    await edit({});
    await expect(loadCheckpoint(dir.path)).rejects.toThrow("model.embed_tokens.weight is in two files");
  });

  it("refuses file names outside the folder, and a name twice", async () => {
    const { dir, edit, index, indexPath, files } = await sharded();
    await using _ = dir;
    await edit({ "model.norm.weight": "../model.safetensors" });
    await expect(loadCheckpoint(dir.path)).rejects.toThrow(
      'model.norm.weight: expected the name of a .safetensors file in the same folder, received "../model.safetensors"',
    );
    await writeFile(indexPath, JSON.stringify(index).replace('"weight_map":{', `"weight_map":{"model.norm.weight":"${files[0]}",`));
    await expect(loadCheckpoint(dir.path)).rejects.toThrow("model.safetensors.index.json: model.norm.weight is there twice");
  });
});

// Made by the reference implementation: recorded ones, and those beside the repository where it has them.
const fixtures = fileURLToPath(new URL("../fixtures/", import.meta.url));
const cases = fileURLToPath(new URL("../../../../shared/cases/", import.meta.url));
describe("checkpoints of the reference implementation", () => {
  for (const path of [fixtures, cases].flatMap((folder) => ["tiny", "sliding"].map((name) => join(folder, name)))) {
    const there = existsSync(path);
    if (!there) console.log(`skipped: ${path} is not there`);
    it.skipIf(!there)(`hold the same tensors in both layouts: ${path}`, async () => {
      await using native = await loadCheckpoint(path);
      await using original = await loadCheckpoint(join(path, "legacy"));
      expect([native.layout, original.layout]).toEqual(["transformers", "original"]);
      const { eosTokenIds: _, ...config } = native.config as ZayaConfig;
      expect(original.config).toMatchObject(config);
      expect([...original.tensors.keys()]).toEqual([...native.tensors.keys()]);
      for (const tensor of native.tensors.keys()) {
        expect(Buffer.compare(await native.read(tensor), await original.read(tensor)), tensor).toBe(0);
      }
    });
  }
});
