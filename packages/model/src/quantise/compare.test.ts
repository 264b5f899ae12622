import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, it } from "vitest";
import { loadCheckpoint } from "../checkpoint.js";
import { initialise } from "../initialise.js";
import { presets } from "../presets.js";
import { saveCheckpoint } from "../save.js";
import { temporaryFolder } from "../testing.js";
import { trainTokenizer } from "../tokenizer/train.js";
import { type CompareOptions, type Comparison, compareCheckpoints } from "./compare.js";
import { expectRoomToRun } from "./expect_room.js";
import { quantiseCheckpoint } from "./quantise.js";

const text = "the quick brown fox jumps over the lazy dog and runs away from it\n".repeat(20);
const config = { ...presets["zaya-tiny"], vocabSize: 280 };

async function save(dir: string, seed: number): Promise<string> {
  const tokenizerFiles = await trainTokenizer([text], { vocabSize: 280 });
  await saveCheckpoint(dir, { config, tensors: initialise(config, seed), tokenizerFiles });
  return dir;
}

async function compare(options: CompareOptions): Promise<Comparison> {
  for await (const event of compareCheckpoints(options)) if (event.type === "compare-end") return event;
  throw new Error("the comparison did not end");
}

it("refuses models whose weights do not fit into memory, other than mapped ones", async () => {
  await using dir = await temporaryFolder();
  const from = await save(join(dir.path, "a"), 1);
  const mapped = join(dir.path, "b");
  for await (const _ of quantiseCheckpoint({ from, out: mapped, to: "bf16" }));
  await using first = await loadCheckpoint(from);
  await using second = await loadCheckpoint(mapped);
  expect(() => expectRoomToRun([first, second], "comparing", 1e9)).not.toThrow();
  expect(() => expectRoomToRun([second], "comparing", 1)).not.toThrow();
  expect(() => expectRoomToRun([first, second], "comparing", 1e3)).toThrow(
    /^comparing runs .*a, whose weights of [\d.]+ [kM]B have no room in 1.00 kB /,
  );
});

it("finds no difference between a model and itself", async () => {
  await using dir = await temporaryFolder();
  const reference = await save(join(dir.path, "a"), 1);
  const read: [number, number][] = [];
  const result = await compare({ reference, candidate: reference, text, context: 64, onProgress: (...bytes) => read.push(bytes) });
  expect(read.filter(([done, total]) => done === total)).toHaveLength(2);
  expect(result.tokens).toBeGreaterThan(300);
  expect(result.meanKl).toBeLessThan(1e-9);
  expect(result.topAgreement).toBe(1);
  expect(result.perplexity.candidate).toBe(result.perplexity.reference);
  expect(result.perplexity.reference).toBeGreaterThan(100);
  expect(result.perplexity.reference).toBeLessThan(600);
  expect(result.routingAgreement).toEqual(Array.from({ length: config.numLayers }, () => 1));
});

it("finds 8 bits nearer than 4, and both nearer than another model", async () => {
  await using dir = await temporaryFolder();
  const reference = await save(join(dir.path, "a"), 1);
  const other = await save(join(dir.path, "b"), 2);
  const candidates = [other];
  for (const to of ["q4", "q8"] as const) {
    const out = join(dir.path, to);
    for await (const _ of quantiseCheckpoint({ from: reference, out, to }));
    candidates.push(out);
  }
  const [apart, q4, q8] = await Promise.all(candidates.map((candidate) => compare({ reference, candidate, text, context: 64 })));
  expect(q8?.meanKl).toBeLessThan(q4?.meanKl ?? 0);
  expect(q4?.meanKl).toBeLessThan((apart?.meanKl ?? 0) / 5);
  expect(q8?.topAgreement).toBeGreaterThan(0.8);
  for (const share of q8?.routingAgreement ?? [0]) expect(share).toBeGreaterThan(0.9);
});

it("reads no more tokens of the text than it is told", async () => {
  await using dir = await temporaryFolder();
  const reference = await save(join(dir.path, "a"), 1);
  const few = await compare({ reference, candidate: reference, text, context: 64, maxTokens: 100 });
  expect(few.tokens).toBeGreaterThanOrEqual(100);
  expect(few.tokens).toBeLessThanOrEqual(102); // each window begins with the token for the beginning
});

it("refuses models of other shapes, and a text without tokens", async () => {
  await using dir = await temporaryFolder();
  const reference = await save(join(dir.path, "a"), 1);
  const candidate = join(dir.path, "b");
  const other = { ...config, expertSize: config.expertSize * 2 };
  await saveCheckpoint(candidate, { config: other, tensors: initialise(other, 1) });
  await expect(compare({ reference, candidate, text })).rejects.toThrow("that of the reference");
  const deeper = { ...config, numLayers: config.numLayers + 1, layerTypes: [...config.layerTypes, "full" as const] };
  await saveCheckpoint(join(dir.path, "c"), { config: deeper, tensors: initialise(deeper, 1) });
  await expect(compare({ reference, candidate: join(dir.path, "c"), text })).rejects.toThrow("the reference has no tensor model.layers.");
  await expect(compare({ reference, candidate: reference, text: "" })).rejects.toThrow("no two tokens");
  await expect(compare({ reference, candidate: reference, text, context: 1 })).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
  const narrow = { ...config, vocabSize: 270 };
  const tokenizerFiles = await trainTokenizer([text], { vocabSize: 280 });
  await saveCheckpoint(join(dir.path, "d"), { config: narrow, tensors: initialise(narrow, 1), tokenizerFiles });
  await expect(compare({ reference: join(dir.path, "d"), candidate: join(dir.path, "d"), text })).rejects.toMatchObject({
    code: "INVALID_ARGUMENT",
    message: expect.stringMatching(/^the tokenizer has ids up to 279, the model 270 rows; /),
  });
  await writeFile(join(reference, "tokenizer.json"), "");
  await expect(compare({ reference, candidate: reference, text })).rejects.toMatchObject({ code: "TOKENIZER_INVALID" });
});
