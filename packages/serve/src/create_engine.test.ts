import { cp, mkdtemp, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openDevice } from "@zaya/kernels";
import {
  initialise,
  loadCheckpoint,
  loadTokenizer,
  presets,
  quantiseCheckpoint,
  type StoredPlace,
  saveCheckpoint,
  trainTokenizer,
} from "@zaya/model";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type BenchOptions, bench } from "./bench/bench.js";
import { createEngine, type EngineOptions } from "./create_engine.js";
import type { Engine } from "./engine.js";
import type { GenerateEvent, GenerateRequest } from "./request.js";

let dir: string;

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "zaya-engine-"));
  const tokenizerFiles = await trainTokenizer(["the quick brown fox jumps over the lazy dog", "the more the merrier"], { vocabSize: 300 });
  const config = { ...presets["zaya-tiny"], vocabSize: 300 };
  await saveCheckpoint(join(dir, "tiny"), { config, tensors: initialise(config, 1), tokenizerFiles });
});
afterAll(() => rm(dir, { recursive: true }));

async function read(engine: Engine, request: GenerateRequest): Promise<GenerateEvent[]> {
  const events: GenerateEvent[] = [];
  for await (const event of engine.generate(request)) events.push(event);
  return events;
}

async function readAlone(request: GenerateRequest, options: EngineOptions = {}): Promise<GenerateEvent[]> {
  await using engine = await createEngine(join(dir, "tiny"), options);
  return await read(engine, request);
}

const ids = (length: number, seed: number) => Array.from({ length }, (_, i) => 5 + ((i * 37 + seed * 101) % 290));
const scored = { maxTokens: 24, seed: 3, temperature: 0.9, topP: 0.95, ignoreEos: true, logprobs: 2, promptLogprobs: 2 };

test("is called like its folder, or its training run, unless it is given a name", async () => {
  for (const link of ["run/latest", "run/best"]) await cp(join(dir, "tiny"), join(dir, link), { recursive: true });
  for (const [folder, options, id] of [
    ["tiny", {}, "tiny"],
    ["run/latest", {}, "run"],
    ["run/best/", {}, "run"],
    ["run/best", { name: "mine" }, "mine"],
  ] as const) {
    await using engine = await createEngine(join(dir, folder), options);
    expect(engine.model.id).toBe(id);
  }
});

for (const [dtype, cacheDtype] of [
  ["float32", "float32"],
  ["bfloat16", "bfloat16"],
  ["bfloat16", "int8"],
] as const) {
  const types = `${dtype}, keys and values ${cacheDtype}`;
  test(`gives the same bits batched as alone, chunked as whole and on any number of threads, ${types}`, async () => {
    const requests = [3, 150, 33, 64, 1, 97].map((length, i) => ({ ...scored, prompt: ids(length, i), seed: i, maxTokens: 8 + i * 3 }));
    await using engine = await createEngine(join(dir, "tiny"), { dtype, cacheDtype, maxSequences: 4, maxBatchTokens: 40 });
    const batched = await Promise.all(requests.map((request) => read(engine, request)));
    expect(engine.stats()).toMatchObject({ running: 0, pagesUsed: 0, slotsUsed: 0 });
    for (const [i, request] of requests.entries()) {
      expect(await readAlone(request, { dtype, cacheDtype, maxSequences: 1, maxBatchTokens: 512, threads: 1 + (i % 3) })).toEqual(
        batched[i],
      );
    }
  });

  test(`decodes with the same bits as it reads, ${types}`, async () => {
    await using engine = await createEngine(join(dir, "tiny"), { dtype, cacheDtype });
    const prompt = ids(45, 7);
    const decoded = (await read(engine, { ...scored, prompt, maxTokens: 60 })).filter((event) => event.type === "token");
    const whole = [...prompt, ...decoded.map((event) => event.tokenId)];
    const [promptEnd] = (await read(engine, { ...scored, prompt: whole, maxTokens: 0 })) as [
      Extract<GenerateEvent, { type: "prompt-end" }>,
    ];
    const generated = promptEnd.logprobs?.slice(prompt.length);
    expect(generated).toEqual(decoded.map(({ tokenId, logprob, topLogprobs }) => ({ tokenId, logprob, topLogprobs })));
  });
}

test("takes the most probable token at a temperature that cannot be divided by", async () => {
  await using engine = await createEngine(join(dir, "tiny"));
  const request = { prompt: ids(5, 1), maxTokens: 8, ignoreEos: true, seed: 1 };
  for (const temperature of [1e-42, 1e-300]) {
    expect(await read(engine, { ...request, temperature })).toEqual(await read(engine, { ...request, temperature: 0 }));
  }
});

test("tells what it loaded and holds no more memory after 60 requests of which half are aborted", async () => {
  await using device = await openDevice("cpu", { threads: 2 });
  const before = device.memory().currentBytes;
  {
    await using engine = await createEngine(join(dir, "tiny"), { device, maxSequences: 8, contextTokens: 512 });
    expect(engine.model).toMatchObject({
      id: "tiny",
      contextTokens: 512,
      vocabSize: 300,
      eosTokenIds: [1, 4],
      dtype: "float32",
      threads: 2,
    });
    const { weights, cache, step } = engine.stats().memory;
    const held = device.memory().currentBytes;
    expect(held - before).toBe(weights + cache + step);
    const requests = Array.from({ length: 60 }, async (_, i) => {
      let tokens = 0;
      for await (const event of engine.generate({ prompt: ids(1 + ((i * 13) % 200), i), maxTokens: 20, seed: i, ignoreEos: true })) {
        if (event.type === "token" && ++tokens > 5 && i % 2 === 1) break;
      }
      return tokens;
    });
    expect(await Promise.all(requests)).toEqual(Array.from({ length: 60 }, (_, i) => (i % 2 === 1 ? 6 : 20)));
    expect(engine.stats()).toMatchObject({ running: 0, waiting: 0, pagesUsed: 0, slotsUsed: 0 });
    expect(device.memory().currentBytes).toBe(held);
  }
  expect(device.memory().currentBytes).toBe(before);
});

test.each([
  { eos_token_id: 106, expected: [1, 106] },
  { eos_token_id: [1, 106], expected: [1, 106] },
  { eos_token_id: null, expected: [1] },
])("ends at the tokens of generation_config.json too: $eos_token_id", async ({ eos_token_id, expected }) => {
  const place = join(dir, `eos-${eos_token_id}`);
  await cp(join(dir, "tiny"), place, { recursive: true });
  await writeFile(join(place, "generation_config.json"), JSON.stringify({ eos_token_id, temperature: 0.6 }));
  await using engine = await createEngine(place);
  expect(engine.model.eosTokenIds).toEqual(expected);
});

test("takes and gives token ids where the checkpoint has no tokenizer", async () => {
  await cp(join(dir, "tiny"), join(dir, "bare"), { recursive: true });
  await rm(join(dir, "bare", "tokenizer.json"));
  await using engine = await createEngine(join(dir, "bare"));
  const events = await read(engine, { prompt: [5, 6, 7], maxTokens: 3, temperature: 0, ignoreEos: true });
  const tokens = events.flatMap((event) => (event.type === "token" ? [event.tokenId] : []));
  expect(events.at(-1)).toMatchObject({ text: tokens.map((id) => ` ${id}`).join("") });
  expect(() => engine.generate({ prompt: "text" })).toThrow(
    expect.objectContaining({ code: "INVALID_REQUEST", message: expect.stringContaining("no tokenizer.json") }),
  );
});

test.each([
  { name: "a folder that is not there", break: async () => {}, path: "nowhere", code: "CONFIG_INVALID" },
  {
    name: "truncated weights",
    break: (path: string) => truncate(join(path, "model.safetensors"), 5000),
    path: "cut",
    code: "CHECKPOINT_INVALID",
  },
  {
    name: "a config that is not JSON",
    break: (path: string) => writeFile(join(path, "config.json"), "{"),
    path: "config",
    code: "CONFIG_INVALID",
  },
  {
    name: "an end token that is no token",
    break: (path: string) => writeFile(join(path, "generation_config.json"), '{"eos_token_id": ["</s>"]}'),
    path: "end",
    code: "CONFIG_INVALID",
  },
  {
    name: "a generation_config.json that is not JSON",
    break: (path: string) => writeFile(join(path, "generation_config.json"), "eos"),
    path: "generation",
    code: "CONFIG_INVALID",
  },
  {
    name: "a tokenizer that is not JSON",
    break: (path: string) => writeFile(join(path, "tokenizer.json"), "{"),
    path: "tok",
    code: "TOKENIZER_INVALID",
  },
])("refuses $name in one line, and holds nothing afterwards", async ({ break: damage, path, code }) => {
  const place = join(dir, path);
  if (path !== "nowhere") await cp(join(dir, "tiny"), place, { recursive: true });
  await damage(place);
  const error = await createEngine(place).catch((thrown: unknown) => thrown);
  expect(error).toMatchObject({ code });
  expect((error as Error).message).not.toContain("\n");
});

test("names the tensor that holds NaN", async () => {
  const config = { ...presets["zaya-tiny"], vocabSize: 300 };
  await saveCheckpoint(join(dir, "nan"), { config, tensors: initialise(config, 1) });
  await using checkpoint = await loadCheckpoint(join(dir, "nan"));
  const { path, offset } = checkpoint.placeOf("model.layers.0.mlp.experts.down_proj") as StoredPlace;
  const bytes = await readFile(path);
  bytes.writeFloatLE(Number.NaN, offset + 4 * 7);
  await writeFile(path, bytes);
  await expect(createEngine(join(dir, "nan"))).rejects.toMatchObject({
    code: "CHECKPOINT_INVALID",
    message: expect.stringContaining("experts.down_proj"),
  });
});

test("generates up to the very end of the context", async () => {
  const events = await readAlone({ prompt: ids(100, 1), ignoreEos: true, seed: 1 }, { contextTokens: 130 });
  expect(events.at(-1)).toMatchObject({ finishReason: "length", usage: { promptTokens: 100, completionTokens: 30 } });
});

test.each([
  [{ maxSequences: 0 }, "maxSequences must be a whole number ≥ 1"],
  [{ maxWaiting: -1 }, "maxWaiting must be a whole number ≥ 0"],
  [{ contextTokens: 4096 }, "the model was made for 2048"],
  [{ cacheTokens: 64 }, "one context of 2048 tokens must fit"],
  [{ maxSequences: 1e6 }, "GB of memory; quantise the checkpoint, or take less context"],
])("refuses %j", async (options, message) => {
  await expect(createEngine(join(dir, "tiny"), options)).rejects.toMatchObject({
    code: "INVALID_ARGUMENT",
    message: expect.stringContaining(message),
  });
});

test.each([
  [{ thread: 2 }, "there is no option thread"],
  [{ dtype: "int8" }, "dtype must be float32 or bfloat16, received int8"],
  [{ cacheDtype: "int4" }, "cacheDtype must be float32, bfloat16 or int8, received int4"],
])("refuses %j before it looks for the checkpoint, of an engine and of a benchmark", async (options, message) => {
  const refused = { code: "INVALID_ARGUMENT", message };
  await expect(createEngine(join(dir, "nowhere"), options as EngineOptions)).rejects.toMatchObject(refused);
  await expect(bench(join(dir, "nowhere"), options as BenchOptions).next()).rejects.toMatchObject(refused);
});

test("takes an undefined option as its default", async () => {
  const options: EngineOptions = {
    name: undefined,
    dtype: undefined,
    cacheDtype: undefined,
    threads: undefined,
    maxSequences: undefined,
    maxWaiting: undefined,
    contextTokens: undefined,
    cacheTokens: undefined,
    maxBatchTokens: undefined,
    device: undefined,
    hugePages: undefined,
    measure: undefined,
    onProgress: undefined,
    signal: undefined,
  };
  await using plain = await createEngine(join(dir, "tiny"));
  await using engine = await createEngine(join(dir, "tiny"), options);
  expect({ ...engine.model, created: 0 }).toEqual({ ...plain.model, created: 0 });
  expect(engine.stats()).toEqual(plain.stats());
});

test("takes the types of packed weights from their file, and refuses another", async () => {
  const packed = join(dir, "q4");
  for await (const _ of quantiseCheckpoint({ from: join(dir, "tiny"), out: packed, to: "q4" }));
  await using engine = await createEngine(packed);
  const { dtype, cacheDtype, typesReason, products } = engine.model;
  expect([dtype, cacheDtype, typesReason]).toEqual(["bfloat16", "bfloat16", "the checkpoint's own"]);
  expect(products.find(({ weights }) => weights === "experts")).toMatchObject({ stored: "int4", operands: "int8" });
  await expect(createEngine(packed, { dtype: "float32" })).rejects.toMatchObject({
    code: "INVALID_ARGUMENT",
    message: expect.stringContaining(`the weights of ${packed} are packed already`),
  });
});

test("stops reading weights with the signal's reason", async () => {
  const controller = new AbortController();
  const seen: number[] = [];
  const onProgress = (done: number) => {
    seen.push(done);
    controller.abort(new Error("enough"));
  };
  await expect(createEngine(join(dir, "tiny"), { onProgress, signal: controller.signal })).rejects.toThrow("enough");
  expect(seen).toHaveLength(1);
});

test("reads no further weights when the tokenizer is of no use", async () => {
  await using checkpoint = await loadCheckpoint(join(dir, "tiny"));
  const tokenizer = { ...(await loadTokenizer(join(dir, "tiny"))), vocabSize: 5000 };
  const seen: number[] = [];
  await expect(createEngine({ checkpoint, tokenizer }, { onProgress: (done) => seen.push(done) })).rejects.toMatchObject({
    code: "CHECKPOINT_INVALID",
    message: expect.stringContaining("belongs to another model"),
  });
  expect(seen.length).toBeLessThan(2); // of 64 tensors
});

test("measures memory before weights take any, and holds none where it cannot", async () => {
  await using device = await openDevice("cpu", { threads: 1 });
  const before = device.memory().currentBytes;
  const measure = async () => {
    expect(device.memory().currentBytes).toBe(before);
    throw new Error("no clock");
  };
  await expect(createEngine(join(dir, "tiny"), { device: { ...device, measure }, measure: true })).rejects.toThrow("no clock");
  expect(device.memory().currentBytes).toBe(before);
});

test("tells how its weights are kept and multiplied, and how fast they can be read", async () => {
  const seen: [number, number][] = [];
  const onProgress = (done: number, total: number) => seen.push([done, total]);
  await using engine = await createEngine(join(dir, "tiny"), { dtype: "bfloat16", measure: true, onProgress });
  const { expected, products, typesReason, isa, isaReason } = engine.model;
  expect(engine.stats().memory).toMatchObject({ weights: seen.at(-1)?.[1], mapped: 0 });
  expect(products.map(({ weights, stored, operands, operations }) => [weights, stored, operands, ...operations])).toEqual([
    ["projections", "bfloat16", "bfloat16", "cca_project", "linear"],
    ["convolutions", "float32", "float32", "cca_heads"],
    ["router", "float32", "float32", "router"],
    ["experts", "bfloat16", "bfloat16", "experts"],
    ["head", "bfloat16", "bfloat16", "linear"],
  ]);
  expect(typesReason).toBe("asked for as bfloat16");
  expect([isa, isaReason]).not.toContain("");
  expect(expected?.tokensPerSecond).toBeCloseTo((expected?.readBandwidth ?? 0) / (expected?.decodeBytes.total ?? 0), 6);
  expect(expected?.decodeBytes).toMatchObject({ head: 320 * 128 * 2, keysAndValues: 0 });
  expect(expected?.readBandwidth).toBeGreaterThan(0);
  expect(seen.at(-1)?.[0]).toBe(seen.at(-1)?.[1]);
  expect(seen.every(([done], i) => i === 0 || done > (seen[i - 1]?.[0] ?? 0))).toBe(true);
});
