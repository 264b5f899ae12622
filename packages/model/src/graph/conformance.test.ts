import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { createGraph, type Device, type DType, differentiate, openDevice, type Store, type Value } from "@zaya/kernels";
import { describe, expect, it, onTestFinished } from "vitest";
import { type Checkpoint, loadCheckpoint } from "../checkpoint.js";
import type { ZayaConfig } from "../config.js";
import { openSafetensors } from "../safetensors.js";
import { loadWeights } from "../weights.js";
import { allocateCache, generationGraph } from "./generation.js";
import { buildLoss } from "./loss.js";

// Cases made by the reference implementation: two recorded ones, those beside the repository where it has them, and any in the
// folders of ZAYA_CASES (npm run conformance).
const root = fileURLToPath(new URL("../../../../", import.meta.url));
const folders = [join(root, "packages/model/fixtures"), join(root, "../shared/cases"), ...(process.env.ZAYA_CASES?.split(":") ?? [])];
const cases = folders.flatMap((folder) =>
  existsSync(folder)
    ? readdirSync(folder)
        .map((name) => join(folder, name))
        .filter((path) => existsSync(join(path, "expected.safetensors")))
    : [],
);

interface Expected {
  readonly loss: number;
  readonly tolerance: { readonly logits_abs: number; readonly hidden_abs: number; readonly grad_rel: number; readonly loss_abs: number };
}

async function loadExpected(path: string) {
  const file = await openSafetensors(join(path, "expected.safetensors"));
  const numbers = async (name: string): Promise<Float32Array> => {
    const bytes = await file.read(name);
    return new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
  };
  const integers = async (name: string): Promise<number[]> => {
    const bytes = await file.read(name);
    return Array.from(new BigInt64Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 8), Number);
  };
  const names = [...file.tensors.keys()];
  onTestFinished(() => file.close());
  const shape = (name: string) => file.tensors.get(name)?.shape ?? [];
  return { names, shape, numbers, integers, json: JSON.parse(readFileSync(join(path, "expected.json"), "utf8")) as Expected };
}

/** B rows of T tokens as one ragged batch, with next-token labels. */
function ragged(ids: readonly number[], batch: number) {
  const length = ids.length / batch;
  return {
    ids: Int32Array.from(ids),
    positions: Int32Array.from(ids, (_, i) => i % length),
    cu_seqlens: Int32Array.from({ length: batch + 1 }, (_, s) => s * length),
    labels: Int32Array.from(ids, (_, i) => (i % length === length - 1 ? -1 : (ids[i + 1] as number))),
  };
}

function largestDifference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  expect(a.length).toBe(b.length);
  let worst = 0;
  for (let i = 0; i < a.length; i++) worst = Math.max(worst, Math.abs((a[i] as number) - (b[i] as number)));
  return worst;
}

async function withModel(
  path: string,
  body: (model: { device: Device; store: Store; checkpoint: Checkpoint; config: ZayaConfig }) => Promise<void>,
) {
  await using device = await openDevice("cpu", { threads: 2 });
  const store = device.createStore();
  await using checkpoint = await loadCheckpoint(path);
  await loadWeights(store, checkpoint, { dtype: "float32", encoding: "plain" });
  await body({ device, store, checkpoint, config: checkpoint.config as ZayaConfig });
}

const float32 = { weights: { dtype: "float32", encoding: "plain" } } as const;

/** Logits of every token of B prompts of one length, through the cache. */
async function prefill(
  { device, store, config }: { device: Device; store: Store; config: ZayaConfig },
  ids: readonly number[],
  batch: number,
  cacheDtype: DType = "float32",
): Promise<Float32Array> {
  const pages = Math.ceil(ids.length / batch / 32);
  const limits = {
    maxTokens: ids.length,
    maxSequences: batch,
    maxLogitRows: ids.length,
    numPages: batch * pages,
    numSlots: batch,
    pagesPerSequence: pages,
    cacheDtype,
  };
  allocateCache(store, config, limits, float32);
  await using generate = device.compile(generationGraph(config, limits, float32), store);
  const { labels: _, ...inputs } = ragged(ids, batch);
  const { logits } = await generate.run({
    inputs: {
      ...inputs,
      slots: Int32Array.from({ length: batch }, (_, s) => s),
      cached: new Int32Array(batch),
      page_table: Int32Array.from({ length: batch * pages }, (_, i) => i),
      logit_rows: Int32Array.from({ length: ids.length }, (_, i) => i),
    },
  });
  return logits as Float32Array;
}

/** Mean over rows of Σ p log(p / q), with p and q the softmax of a row. */
function divergence(p: Float32Array, q: Float32Array, vocabSize: number): number {
  const logProbabilities = (row: Float32Array) => {
    const max = row.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
    const normaliser = max + Math.log(row.reduce((sum, x) => sum + Math.exp(x - max), 0));
    return Float64Array.from(row, (x) => x - normaliser);
  };
  const rows = p.length / vocabSize;
  let kl = 0;
  for (let r = 0; r < rows; r++) {
    const [a, b] = [p, q].map((x) => logProbabilities(x.subarray(r * vocabSize, (r + 1) * vocabSize))) as [Float64Array, Float64Array];
    kl += a.reduce((sum, x, i) => sum + Math.exp(x) * (x - (b[i] as number)), 0) / rows;
  }
  return kl;
}

describe.each(cases.map((path) => ({ path, name: path.split("/").slice(-2).join("/") })))("case $name", ({ path }) => {
  for (const layout of ["transformers", "original"]) {
    it(`gives the reference's hidden states, routing, logits and loss from the ${layout} layout`, { timeout: 120_000 }, async () => {
      const expected = await loadExpected(path);
      await withModel(layout === "original" ? join(path, "legacy") : path, async ({ device, store, config }) => {
        const [batch = 1, length = 1] = expected.shape("input_ids");
        const graph = createGraph();
        const { lossSum, forward } = buildLoss(graph, config, { ...float32, maxTokens: batch * length, maxSequences: batch });
        graph.output("loss", lossSum);
        forward.layers.forEach(({ hidden, routing }, i) => {
          graph.output(`hidden.${i}`, hidden);
          graph.output(`router.${i}.index`, routing?.index as Value);
          graph.output(`router.${i}.prob`, routing?.prob as Value);
        });
        await using executable = device.compile(graph, store);
        const got = await executable.run({ inputs: ragged(await expected.integers("input_ids"), batch) });
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

        const logits = await prefill({ device, store, config }, await expected.integers("input_ids"), batch);
        expect(largestDifference(logits, await expected.numbers("logits"))).toBeLessThanOrEqual(expected.json.tolerance.logits_abs);
      });
    });
  }

  for (const [cacheDtype, limit] of [
    ["bfloat16", 1e-3],
    ["int8", 1e-2],
  ] as const) {
    it(`stays close to the reference with keys and values cached in ${cacheDtype}`, { timeout: 120_000 }, async () => {
      const expected = await loadExpected(path);
      await withModel(path, async (model) => {
        const [batch = 1] = expected.shape("input_ids");
        const logits = await prefill(model, await expected.integers("input_ids"), batch, cacheDtype);
        expect(divergence(await expected.numbers("logits"), logits, model.config.vocabSize)).toBeLessThan(limit);
      });
    });
  }

  it("generates the reference's greedy tokens with the cache", { timeout: 120_000 }, async () => {
    const expected = await loadExpected(path);
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
      allocateCache(store, config, limits, float32);
      await using executable = device.compile(generationGraph(config, limits, float32), store);
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
      const expected = await loadExpected(path);
      const names = expected.names.filter((name) => name.startsWith("grad.")).map((name) => name.slice(5));
      if (names.length === 0) return console.warn(`${path} has no gradients: made with --no-grad`);
      await withModel(path, async ({ device, store, config }) => {
        const [batch = 1, length = 1] = expected.shape("input_ids");
        const graph = createGraph();
        const { lossSum } = buildLoss(graph, config, { ...float32, training, maxTokens: batch * length, maxSequences: batch });
        const wrt = names.map((name) => graph.read(name, store.typeOf(name)));
        differentiate(lossSum, wrt).forEach((gradient, i) => {
          graph.output(names[i] as string, gradient);
        });
        await using executable = device.compile(graph, store);
        const got = await executable.run({ inputs: ragged(await expected.integers("input_ids"), batch) });
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
