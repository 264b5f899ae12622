import { join } from "node:path";
import { mean, median, openDevice } from "@zaya/kernels";
import { describe, expect, it } from "vitest";
import { loadCheckpoint } from "../checkpoint.js";
import { quantiseCheckpoint, type Width } from "../quantise/quantise.js";
import { promptLogits } from "../testing/prompt_logits.js";
import { openReferenceCase, referenceCases } from "../testing/reference_case.js";
import { temporaryFolder } from "../testing.js";
import { loadWeights } from "../weights.js";

interface Tolerance {
  readonly weights: "float32" | "bfloat16" | "bf16" | "q8" | "q4";
  readonly widths?: { readonly attention: Width; readonly head: Width };
  readonly cacheDtype: "bfloat16" | "int8";
  readonly limit: number;
  readonly recorded?: Readonly<Record<string, number>>;
  /** Of the mean, 0.05 unless given. */
  readonly meanLimit?: number;
}

/** Of each row Σ p log(p / q), with p and q the softmax of a row of logits. */
function divergences(p: Float32Array, q: Float32Array, vocabSize: number): number[] {
  const logProbabilities = (row: Float32Array) => {
    const max = row.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
    const normaliser = max + Math.log(row.reduce((sum, x) => sum + Math.exp(x - max), 0));
    return Float64Array.from(row, (x) => x - normaliser);
  };
  return Array.from({ length: p.length / vocabSize }, (_, r) => {
    const [a, b] = [p, q].map((x) => logProbabilities(x.subarray(r * vocabSize, (r + 1) * vocabSize))) as [Float64Array, Float64Array];
    return a.reduce((sum, x, i) => sum + Math.exp(x) * (x - (b[i] as number)), 0);
  });
}

// How far the model may be from the reference, which computes in float32, in nats a token: the median, as a token that goes to another expert by a hair is
// far off, and the mean with such tokens. conformance.test.ts has float32. `limit` is for any case. The recorded ones have limits of their own, at most
// twice what is measured: a bias or a scale of the router that is left out is beyond them.
const tolerances: readonly Tolerance[] = [
  { weights: "float32", cacheDtype: "bfloat16", limit: 1e-4 },
  { weights: "float32", cacheDtype: "int8", limit: 1e-3 },
  { weights: "bfloat16", cacheDtype: "bfloat16", limit: 5e-4 },
  { weights: "bf16", cacheDtype: "bfloat16", limit: 5e-4 },
  { weights: "q8", cacheDtype: "bfloat16", limit: 4e-3, recorded: { "fixtures/tiny": 9e-4, "fixtures/sliding": 4e-4 } },
  { weights: "q8", cacheDtype: "int8", limit: 4e-3, recorded: { "fixtures/tiny": 9e-4, "fixtures/sliding": 4e-4 } },
  { weights: "q4", cacheDtype: "bfloat16", limit: 1.5e-2, recorded: { "fixtures/tiny": 4.5e-3, "fixtures/sliding": 8e-4 } },
  { weights: "q4", cacheDtype: "int8", limit: 1.5e-2, recorded: { "fixtures/tiny": 4.5e-3, "fixtures/sliding": 8e-4 } },
  {
    weights: "q4",
    widths: { attention: 6, head: 6 },
    cacheDtype: "bfloat16",
    limit: 2e-2,
    recorded: { "fixtures/tiny": 9e-3, "fixtures/sliding": 4e-3 },
  },
  { weights: "q4", widths: { attention: 4, head: 4 }, cacheDtype: "bfloat16", limit: 0.15, meanLimit: 0.15 },
];

describe.each(referenceCases.map((path) => ({ path, name: path.split("/").slice(-2).join("/") })))("case $name", ({ path, name }) => {
  it.each(tolerances)(
    "stays within $limit nats of the reference with weights in $weights $widths and keys and values in $cacheDtype",
    { timeout: 120_000 },
    async ({ weights: kind, widths, cacheDtype, limit, recorded, meanLimit = 0.05 }) => {
      const expected = await openReferenceCase(path);
      const [batch = 1] = expected.shape("input_ids");
      await using folder = await temporaryFolder();
      const out = join(folder.path, kind);
      const loaded = kind === "float32" || kind === "bfloat16" ? path : out;
      if (loaded === out) for await (const _ of quantiseCheckpoint({ from: path, out, to: kind as "bf16" | "q8" | "q4", ...widths }));
      await using checkpoint = await loadCheckpoint(loaded);
      const weights = checkpoint.weights ?? { dtype: kind as "float32" | "bfloat16", encoding: "panels" as const };
      await using device = await openDevice("cpu", { threads: 2 });
      await using store = device.createStore();
      await loadWeights(store, checkpoint, weights);
      const model = { device, store, config: checkpoint.config, weights, cacheDtype };
      const logits = await promptLogits(model, await expected.integers("input_ids"), batch);
      const rows = divergences(await expected.numbers("logits"), logits, checkpoint.config.vocabSize);
      expect(median(rows)).toBeLessThan(recorded?.[name] ?? limit);
      expect(mean(rows)).toBeLessThan(meanLimit);
    },
  );
});
