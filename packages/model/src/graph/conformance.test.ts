import { join } from "node:path";
import { createGraph, type Device, differentiate, openDevice, type Store, type Value } from "@zaya/kernels";
import { describe, expect, it } from "vitest";
import { loadCheckpoint } from "../checkpoint.js";
import type { ZayaConfig } from "../config.js";
import { promptLogits } from "../testing/prompt_logits.js";
import { openReferenceCase, raggedBatch, referenceCases } from "../testing/reference_case.js";
import { loadWeights } from "../weights.js";
import { allocateCache, generationGraph } from "./generation.js";
import { buildLoss } from "./loss.js";

/** With the next token of each row for a label. */
function labelled(ids: readonly number[], batch: number) {
  const length = ids.length / batch;
  const labels = Int32Array.from(ids, (_, i) => (i % length === length - 1 ? -1 : (ids[i + 1] as number)));
  return { ...raggedBatch(ids, batch), labels };
}

function largestDifference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  expect(a.length).toBe(b.length);
  let worst = 0;
  for (let i = 0; i < a.length; i++) worst = Math.max(worst, Math.abs((a[i] as number) - (b[i] as number)));
  return worst;
}

async function withModel(path: string, body: (model: { device: Device; store: Store; config: ZayaConfig }) => Promise<void>) {
  await using device = await openDevice("cpu", { threads: 2 });
  const store = device.createStore();
  await using checkpoint = await loadCheckpoint(path);
  await loadWeights(store, checkpoint, weights);
  await body({ device, store, config: checkpoint.config as ZayaConfig });
}

const weights = { dtype: "float32", encoding: "plain" } as const;

describe.each(referenceCases.map((path) => ({ path, name: path.split("/").slice(-2).join("/") })))("case $name", ({ path }) => {
  for (const layout of ["transformers", "original"]) {
    it(`gives the reference's hidden states, routing, logits and loss from the ${layout} layout`, { timeout: 120_000 }, async () => {
      const expected = await openReferenceCase(path);
      await withModel(layout === "original" ? join(path, "legacy") : path, async ({ device, store, config }) => {
        const [batch = 1, length = 1] = expected.shape("input_ids");
        const graph = createGraph();
        const { lossSum, forward } = buildLoss(graph, config, { weights, maxTokens: batch * length, maxSequences: batch });
        graph.output("loss", lossSum);
        forward.layers.forEach(({ hidden, routing }, i) => {
          graph.output(`hidden.${i}`, hidden);
          graph.output(`router.${i}.index`, routing?.index as Value);
          graph.output(`router.${i}.prob`, routing?.prob as Value);
        });
        await using executable = device.compile(graph, store);
        const got = await executable.run({ inputs: labelled(await expected.integers("input_ids"), batch) });
        for (let i = 0; i < config.numLayers; i++) {
          expect(largestDifference(got[`hidden.${i}`] ?? [], await expected.numbers(`hidden.${i}`))).toBeLessThanOrEqual(
            expected.json.tolerance.hidden_abs,
          );
          expect([...(got[`router.${i}.index`] ?? [])]).toEqual(await expected.integers(`router.${i}.index`));
          expect(largestDifference(got[`router.${i}.prob`] ?? [], await expected.numbers(`router.${i}.prob`))).toBeLessThanOrEqual(1e-5);
        }
        expect(Math.abs((got.loss?.[0] ?? 0) / (batch * (length - 1)) - expected.json.loss)).toBeLessThanOrEqual(
          expected.json.tolerance.loss_abs,
        );

        const logits = await promptLogits({ device, store, config, weights }, await expected.integers("input_ids"), batch);
        expect(largestDifference(logits, await expected.numbers("logits"))).toBeLessThanOrEqual(expected.json.tolerance.logits_abs);
      });
    });
  }

  it("generates the reference's greedy tokens with the cache", { timeout: 120_000 }, async () => {
    const expected = await openReferenceCase(path);
    await withModel(path, async ({ device, store, config }) => {
      const [batch = 1, length = 1] = expected.shape("input_ids");
      const [, total = 1] = expected.shape("generated");
      const generated = await expected.integers("generated");
      const pages = Math.ceil(total / 32);
      const limits = {
        maxTokens: batch * length,
        maxSequences: batch,
        maxLogitRows: batch,
        numPages: batch * pages,
        numSlots: batch,
        pagesPerSequence: pages,
      };
      allocateCache(store, config, limits, { weights });
      await using executable = device.compile(generationGraph(config, limits, { weights }), store);
      const sequences = Array.from({ length: batch }, (_, s) => generated.slice(s * total, s * total + length));
      let cached = 0;
      while ((sequences[0]?.length ?? total) < total) {
        const chunk = (sequences[0]?.length ?? 0) - cached;
        const { logits } = await executable.run({
          inputs: {
            ids: Int32Array.from(sequences.flatMap((sequence) => sequence.slice(cached))),
            positions: Int32Array.from({ length: batch * chunk }, (_, i) => cached + (i % chunk)),
            cu_seqlens: Int32Array.from({ length: batch + 1 }, (_, s) => s * chunk),
            slots: Int32Array.from({ length: batch }, (_, s) => s),
            cached: new Int32Array(batch).fill(cached),
            page_table: Int32Array.from({ length: batch * pages }, (_, i) => i),
            logit_rows: Int32Array.from({ length: batch }, (_, s) => (s + 1) * chunk - 1),
          },
        });
        cached += chunk;
        sequences.forEach((sequence, s) => {
          const row = (logits as Float32Array).subarray(s * config.vocabSize, (s + 1) * config.vocabSize);
          // The cases were made with a least length, before which the reference forbids the end of a sequence.
          for (const eos of config.eosTokenIds) row[eos] = Number.NEGATIVE_INFINITY;
          sequence.push(row.indexOf(row.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY)));
        });
      }
      expect(sequences.flat()).toEqual(generated);
    });
  });

  it.each([false, true])(
    "gives the reference's gradient of every parameter, the loss apart from or with its own: %s",
    { timeout: 120_000 },
    async (training) => {
      const expected = await openReferenceCase(path);
      const names = expected.names.filter((name) => name.startsWith("grad.")).map((name) => name.slice(5));
      if (names.length === 0) return console.warn(`${path} has no gradients: made with --no-grad`);
      await withModel(path, async ({ device, store, config }) => {
        const [batch = 1, length = 1] = expected.shape("input_ids");
        const graph = createGraph();
        const { lossSum } = buildLoss(graph, config, { weights, training, maxTokens: batch * length, maxSequences: batch });
        const wrt = names.map((name) => graph.read(name, store.typeOf(name)));
        differentiate(lossSum, wrt).forEach((gradient, i) => {
          graph.output(names[i] as string, gradient);
        });
        await using executable = device.compile(graph, store);
        const got = await executable.run({ inputs: labelled(await expected.integers("input_ids"), batch) });
        const labels = batch * (length - 1);
        for (const name of names) {
          const want = await expected.numbers(`grad.${name}`);
          const scale = want.reduce((a, b) => Math.max(a, Math.abs(b)), 0);
          const mean = Float32Array.from(got[name] ?? [], (x) => x / labels);
          expect(largestDifference(mean, want), name).toBeLessThanOrEqual(expected.json.tolerance.grad_rel * scale);
          expect(
            mean.some((x) => x !== 0),
            `${name} has a gradient`,
          ).toBe(want.some((x) => x !== 0));
        }
      });
    },
  );
});
