import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { initialise, loadCheckpoint, presets, saveCheckpoint } from "@zaya/model";
import { expect, test } from "vitest";
import { openModelRunner } from "./model_runner.js";
import { rankLogits } from "./testing.js";

test("gives rows ranked as sorting all of their logits does, and any logit on request", async () => {
  const dir = await mkdtemp(join(tmpdir(), "zaya-runner-"));
  const config = { ...presets["zaya-tiny"], vocabSize: 300 };
  await saveCheckpoint(dir, { config, tensors: initialise(config, 1) });
  await using checkpoint = await loadCheckpoint(dir);
  const limits = { maxTokens: 8, maxSequences: 2, maxLogitRows: 8, numPages: 2, numSlots: 2, pagesPerSequence: 1 };
  await using runner = await openModelRunner(checkpoint, { limits, dtype: "float32", threads: 2 });
  const temperatures = [1, 0.3, 0, 2.5];
  const rows = await runner.run({
    ids: Int32Array.of(5, 17, 200, 5, 60),
    positions: Int32Array.of(0, 1, 2, 0, 1),
    cuSeqlens: Int32Array.of(0, 3, 5),
    slots: Int32Array.of(0, 1),
    cached: Int32Array.of(0, 0),
    pageTable: Int32Array.of(1, 0),
    logitRows: Int32Array.of(0, 1, 2, 4),
    temperatures: Float32Array.from(temperatures),
  });
  expect(rows.length).toBe(4);
  rows.forEach((row, r) => {
    const logits = row.logits();
    const sorted = rankLogits(logits, temperatures[r]);
    expect({ size: row.size, ids: row.ids, values: row.values }).toEqual({ size: 300, ids: sorted.ids, values: sorted.values });
    expect(row.sum / sorted.sum).toBeCloseTo(1, 5);
    expect(row.temperedSum / sorted.temperedSum).toBeCloseTo(1, 5);
    expect(row.masses[0]).toBe(temperatures[r] === 0 ? 0 : row.temperedSum);
    expect(row.logits(123, 126)).toEqual(logits.slice(123, 126));
  });
  expect(rows[0]?.ids).not.toEqual(rows[1]?.ids);
  await rm(dir, { recursive: true });
});
