import { expect, test } from "vitest";
import { type BenchEvent, type BenchOptions, bench } from "./bench.js";

const small = { model: "zaya-tiny", context: 32, windows: 2, repetitions: 3, threads: 1 } as const;

async function eventsOf(options: BenchOptions): Promise<BenchEvent[]> {
  const events: BenchEvent[] = [];
  for await (const event of bench(options)) events.push(event);
  return events;
}

test("tells speed, share of the limit, the time of operations and how experts were used", async () => {
  const events = await eventsOf(small);
  expect(events.map(({ type }) => type)).toEqual(["bench-start", ...new Array(3).fill("repetition-end"), "result", "bench-end"]);
  const speeds = events.flatMap((event) => (event.type === "repetition-end" ? [event.tokensPerSecond] : []));
  for (const event of events) {
    if (event.type === "result") {
      const { result, operations, maxMeanExpertLoad } = event;
      expect(result).toMatchObject({ name: "train64", dtype: "bfloat16", batch: 2, depth: 32 });
      expect(result.tokensPerSecond).toBeCloseTo(speeds.reduce((a, b) => a + b, 0) / 3, 6);
      expect(result.stddev).toBeGreaterThan(0);
      expect(result.fractionOfLimit).toBeCloseTo(result.tokensPerSecond / result.limit, 9);
      expect(result.fractionOfLimit).toBeLessThan(1);
      expect(operations.reduce((sum, { share }) => sum + share, 0)).toBeCloseTo(1, 9);
      expect(operations.map(({ name }) => name)).toEqual(expect.arrayContaining(["attention", "grouped_linear", "adamw"]));
      expect(maxMeanExpertLoad).toBeGreaterThanOrEqual(1);
    }
    if (event.type === "bench-end") {
      expect(Object.values(event.limits).every((limit) => limit > 0)).toBe(true);
      expect(event.results).toHaveLength(1);
    }
  }
});

test("has no expert load for a dense model", async () => {
  const events = await eventsOf({ ...small, model: "dense-512", vocabSize: 64, repetitions: 1 });
  const result = events.find((event) => event.type === "result");
  expect(result?.type === "result" && result.maxMeanExpertLoad).toBeNull();
});

test("tells the repetitions that were finished when it is stopped, and ends with the signal's reason", async () => {
  const controller = new AbortController();
  const events: BenchEvent[] = [];
  const run = async () => {
    for await (const event of bench({ ...small, repetitions: 1000, signal: controller.signal })) {
      events.push(event);
      if (event.type === "repetition-end" && event.repetition === 2) controller.abort(new Error("enough"));
    }
  };
  await expect(run()).rejects.toThrow("enough");
  expect(events.map(({ type }) => type)).toEqual(["bench-start", "repetition-end", "repetition-end", "result"]);
  const speeds = events.flatMap((event) => (event.type === "repetition-end" ? [event.tokensPerSecond] : []));
  const result = events.find((event) => event.type === "result");
  expect(result?.operations).toEqual([]);
  expect(result?.result.tokensPerSecond).toBeCloseTo(speeds.reduce((a, b) => a + b, 0) / 2, 6);
});

test("has no result when it is stopped before a repetition is finished", async () => {
  const controller = new AbortController();
  const types: string[] = [];
  const run = async () => {
    for await (const { type } of bench({ ...small, signal: controller.signal })) {
      types.push(type);
      controller.abort(new Error("enough"));
    }
  };
  await expect(run()).rejects.toThrow("enough");
  expect(types).toEqual(["bench-start"]);
});

test("refuses a number that makes no sense", async () => {
  await expect(eventsOf({ ...small, repetitions: 0 })).rejects.toThrow("repetitions");
});
