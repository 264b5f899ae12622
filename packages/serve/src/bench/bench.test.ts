import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { initialise, presets, saveCheckpoint } from "@zaya/model";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type BenchEvent, type BenchOptions, bench } from "./bench.js";
import { drawTokens, stepBatch } from "./steps.js";

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "zaya-bench-"));
  const config = { ...presets["zaya-tiny"], vocabSize: 300 };
  await saveCheckpoint(dir, { config, tensors: initialise(config, 1) });
});
afterAll(() => rm(dir, { recursive: true }));

async function eventsOf(options: BenchOptions): Promise<BenchEvent[]> {
  const events: BenchEvent[] = [];
  for await (const event of bench(dir, options)) events.push(event);
  return events;
}

test("a row for every prompt and number of tokens at every depth, and every batch that generates", async () => {
  const loaded: number[] = [];
  const onProgress = (done: number, total: number) => loaded.push(done / total);
  const events = await eventsOf({ prompt: [40], generate: [3], depths: [33, 0], batches: [1, 4], repetitions: 2, threads: 1, onProgress });
  expect(loaded.at(-1)).toBe(1);
  const end = events.at(-1);
  if (end?.type !== "bench-end") throw new Error("the last event is bench-end");
  expect(end.results.map(({ name, batch, depth }) => [name, batch, depth])).toEqual([
    ["pp40", 1, 0],
    ["tg3", 1, 0],
    ["tg3", 4, 0],
    ["pp40", 1, 33],
    ["tg3", 1, 33],
    ["tg3", 4, 33],
  ]);
  for (const { tokensPerSecond, limit, fractionOfLimit } of end.results) {
    expect(limit).toBeGreaterThan(0);
    expect(fractionOfLimit).toBeCloseTo(tokensPerSecond / limit, 9);
  }
  for (const limit of Object.values(end.limits)) expect(limit).toBeGreaterThan(0);
  expect(events.filter(({ type }) => type === "repetition-end")).toHaveLength(12);
  expect(events.filter(({ type }) => type === "fill")).toEqual([{ type: "fill", tokens: 33, of: 33 }]);
});

test("tells the bytes of a step, the time of operations and the experts in use", async () => {
  const events = await eventsOf({ prompt: [0], generate: [4, 0], batches: [1, 8], repetitions: 1, threads: 1 });
  const [alone, eight] = events.filter((event) => event.type === "result");
  if (!alone || !eight) throw new Error("two results");
  const { bytes, operations, experts } = alone.details;
  if (!bytes || !experts) throw new Error("generation has bytes and experts");
  const { total, ...parts } = bytes;
  expect(Object.values(parts).reduce((sum, each) => sum + each, 0)).toBe(total);
  expect(alone.details.readsOnly).toBeGreaterThan(0);
  expect(operations.map(({ name }) => name)).toContain("experts");
  for (const { name, milliseconds } of operations) expect(milliseconds, name).toBeGreaterThan(0);
  expect(experts.distinct).toBe(1);
  expect(eight.details.experts?.distinct).toBeGreaterThan(1);
  expect(eight.details.bytes?.experts).toBeCloseTo(bytes.experts * (eight.details.experts?.distinct ?? 0), 3);
});

test("tells the repetitions that were finished when it is stopped in a test", async () => {
  const controller = new AbortController();
  const results: number[] = [];
  const run = async () => {
    for await (const event of bench(dir, { prompt: [8], generate: [2], repetitions: 1000, threads: 1, signal: controller.signal })) {
      if (event.type === "repetition-end" && event.repetition === 2) controller.abort(new Error("enough"));
      if (event.type === "result") results.push(event.result.tokensPerSecond);
    }
  };
  await expect(run()).rejects.toThrow("enough");
  expect(results).toEqual([expect.any(Number)]);
});

test("stops when it is told to, and what was done has been told", async () => {
  const controller = new AbortController();
  const seen: string[] = [];
  const run = async () => {
    for await (const event of bench(dir, { prompt: [8], generate: [2], repetitions: 1, threads: 1, signal: controller.signal })) {
      seen.push(event.type);
      if (event.type === "result") controller.abort(new Error("enough"));
    }
  };
  await expect(run()).rejects.toThrow("enough");
  expect(seen).toEqual(["bench-start", "repetition-end", "result"]);
});

test.each([
  [{ depths: [-1] }, "depths must be whole numbers ≥ 0, received -1"],
  [{ batches: [0] }, "batches must be whole numbers ≥ 1, received 0"],
  [{ prompt: [], generate: [] }, "there is nothing to measure"],
  [{ prompt: [0], generate: [0] }, "there is nothing to measure"],
  [{ prompt: [-1] }, "prompt must be whole numbers ≥ 0, received -1"],
  [{ depths: [1e9] }, "is longer than the"],
])("refuses %o", async (options, message) => {
  await expect(eventsOf(options)).rejects.toThrow(message);
});

test("a step's sequences have slots and pages of their own, and want logits of their last token", () => {
  const limits = { maxTokens: 64, maxSequences: 2, maxLogitRows: 2, numPages: 6, numSlots: 2, pagesPerSequence: 3, vocabSize: 10 };
  const batch = stepBatch(limits, 2, 40, 2, drawTokens(10, 1));
  expect([...batch.positions]).toEqual([40, 41, 40, 41]);
  expect([...batch.cuSeqlens]).toEqual([0, 2, 4]);
  expect([...batch.pageTable]).toEqual([0, 1, 0, 3, 4, 0]);
  expect([...batch.logitRows]).toEqual([1, 3]);
  expect(batch.ids.every((id) => id >= 0 && id < 10)).toBe(true);
});
