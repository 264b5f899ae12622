import { expect, test } from "vitest";
import { uniform } from "./random.js";
import { logitChunk, numRanked } from "./runner.js";
import { type Sampling, sampleToken } from "./sampler.js";
import { rankLogits } from "./testing.js";

const plain: Sampling = { temperature: 1, topK: 0, topP: 1, minP: 0, seed: 1, stream: 0 };

/** Logits with many values and some ties. */
function logitsOf(n: number, seed: number): Float32Array {
  return Float32Array.from({ length: n }, (_, i) => Math.round(uniform(seed, 9, i) * 400 - 200) / 20);
}

/** Draws from logits that are ranked as a runner does it. */
function sample(logits: Float32Array, sampling: Sampling, index: number): number {
  return sampleToken(rankLogits(logits, sampling.temperature), sampling, index);
}

/** The set that top-k, top-p and min-p leave, by sorting everything. */
function allowedBySorting(logits: Float32Array, { temperature, topK, topP, minP }: Sampling): Set<number> {
  let ids = [...logits.keys()].sort((a, b) => (logits[b] as number) - (logits[a] as number) || a - b);
  const top = logits[ids[0] as number] as number;
  const weight = (id: number) => Math.exp(((logits[id] as number) - top) / temperature);
  if (topK > 0) ids = ids.slice(0, topK);
  const total = ids.reduce((sum, id) => sum + weight(id), 0);
  let mass = 0;
  if (topP < 1) {
    const kept: number[] = [];
    for (const id of ids) {
      kept.push(id);
      mass += weight(id);
      if (mass >= topP * total) break;
    }
    ids = kept;
  }
  return new Set(ids.filter((id) => weight(id) >= minP));
}

test("takes the arg-max at temperature 0, the lowest id where two tie", () => {
  expect(sample(Float32Array.of(1, 3, 2, 3), { ...plain, temperature: 0 }, 0)).toBe(1);
});

test("refuses logits that are not finite, by code", () => {
  for (const bad of [Number.NaN, Number.POSITIVE_INFINITY]) {
    expect(() => sample(Float32Array.of(0, bad, 1), plain, 0)).toThrow(expect.objectContaining({ code: "NON_FINITE_LOGITS" }));
  }
});

test.each([
  { topK: 5 },
  { topP: 0.5 },
  { topP: 0.9, topK: 20 },
  { topP: 0.999999 },
  { minP: 0.2 },
  { topP: 0.95, temperature: 3 },
  { topP: 0.3, temperature: 0.2 },
  { topP: 0.8, minP: 0.05, topK: 30 },
])("draws only from what $topK $topP $minP leave, and all of it", (cuts) => {
  const sampling = { ...plain, ...cuts };
  const logits = logitsOf(60, 5);
  const allowed = allowedBySorting(logits, sampling);
  const drawn = new Set<number>();
  for (let i = 0; i < 300; i++) drawn.add(sample(logits, sampling, i));
  for (const id of drawn) expect(allowed).toContain(id);
});

test.each([
  { topK: 200 },
  { topK: 200, topP: 0.97, temperature: 4 },
  { topP: 0.9, temperature: 4 },
  { minP: 0.001, temperature: 4 },
  { minP: 0.02, topP: 0.99, temperature: 3 },
  { temperature: 5 },
])("goes beyond the ranked tokens where $topK $topP $minP at $temperature do, and to all that are left", (cuts) => {
  const sampling = { ...plain, ...cuts };
  const logits = logitsOf(400, 8);
  const allowed = allowedBySorting(logits, sampling);
  expect(allowed.size).toBeGreaterThan(numRanked);
  const weights = Float64Array.from(logits, (logit, id) => (allowed.has(id) ? Math.exp(logit / sampling.temperature) : 0));
  const mass = weights.reduce((a, b) => a + b, 0);
  const drawn = new Map<number, number>();
  const row = rankLogits(logits, sampling.temperature);
  const n = 20_000;
  for (let i = 0; i < n; i++) {
    const id = sampleToken(row, sampling, i);
    drawn.set(id, (drawn.get(id) ?? 0) + 1);
  }
  for (const id of drawn.keys()) expect(allowed).toContain(id);
  for (const id of allowed) {
    const p = (weights[id] as number) / mass;
    expect(Math.abs((drawn.get(id) ?? 0) - n * p)).toBeLessThan(6 * Math.sqrt(n * p * (1 - p)) + 1);
  }
});

test.each([
  { topK: 129, topP: 0.5 },
  { topK: 200, topP: 0.1 },
  { topK: 200, topP: 0 },
  { topK: 200, minP: 0.9 },
  { topK: 200, topP: 0.4, minP: 0.9 },
  { topK: 200, topP: 0.3, ties: 5 },
])("cuts the ranked tokens where $topK are more of them, and $topP $minP leave few", ({ ties = 1, ...cuts }) => {
  const sampling = { ...plain, ...cuts };
  const logits = Float32Array.from({ length: 400 }, (_, id) => -0.02 * Math.floor(id / ties));
  const allowed = allowedBySorting(logits, sampling);
  expect(allowed.size).toBeLessThan(numRanked);
  const row = rankLogits(logits);
  const drawn = new Set<number>();
  for (let i = 0; i < 2000; i++) drawn.add(sampleToken(row, sampling, i));
  expect(drawn).toEqual(allowed);
});

test("fetches the other logits only where it must", () => {
  const size = 2 * logitChunk + 100;
  const logits = logitsOf(size, 4);
  for (const [cuts, needed] of [
    [{ temperature: 0 }, 0],
    [{ topK: 20 }, 0],
    [{ topK: 128, topP: 0.9 }, 0],
    [{ topP: 0.02, temperature: 0.2 }, 0],
    [{ minP: 0.99 }, 0],
    [{ temperature: 9 }, logitChunk],
    [{ topK: 129 }, size],
    [{ topP: 0.99, temperature: 9 }, size],
  ] as const) {
    const sampling = { ...plain, ...cuts };
    let fetched = 0;
    const row = rankLogits(logits, sampling.temperature);
    const read = (begin = 0, end = size) => {
      fetched = Math.max(fetched, end - begin);
      return logits.subarray(begin, end);
    };
    sampleToken({ ...row, logits: read }, sampling, 1);
    expect(fetched, JSON.stringify(cuts)).toBe(needed);
  }
});

test("draws beyond the ranked tokens as often as each chunk of logits weighs, and there by probability", () => {
  const logits = Float32Array.from({ length: 2 * logitChunk + 100 }, (_, id) => (id % logitChunk === 7 ? 3 : id < logitChunk ? 0 : -2));
  const row = rankLogits(logits);
  const ranked = new Set(row.ids);
  const weights = Float64Array.from(logits, (logit) => Math.exp(logit));
  const mass = weights.reduce((a, b) => a + b, 0);
  const parts: readonly (readonly [string, (id: number) => boolean])[] = [
    ["ranked", (id) => ranked.has(id)],
    ["first", (id) => !ranked.has(id) && id < logitChunk],
    ["second", (id) => !ranked.has(id) && id >= logitChunk && id < 2 * logitChunk],
    ["odd end", (id) => !ranked.has(id) && id >= 2 * logitChunk],
  ];
  const n = 20_000;
  const drawn = Array.from({ length: n }, (_, i) => sampleToken(row, plain, i));
  for (const [name, has] of parts) {
    const p = weights.reduce((sum, weight, id) => sum + (has(id) ? weight : 0), 0) / mass;
    expect(Math.abs(drawn.filter(has).length - n * p), name).toBeLessThan(5 * Math.sqrt(n * p * (1 - p)));
  }
  const places = drawn.filter((id) => !ranked.has(id) && id < logitChunk);
  const middle = places.reduce((sum, id) => sum + id, 0) / places.length; // all as probable: their ids spread evenly over what is not ranked
  const unranked = [...logits.keys()].filter((id) => id < logitChunk && !ranked.has(id));
  const expected = unranked.reduce((sum, id) => sum + id, 0) / unranked.length;
  expect(Math.abs(middle - expected)).toBeLessThan((5 * logitChunk) / Math.sqrt(12 * places.length));
});

test("draws a ranked token where rounding leaves nothing beyond them", () => {
  const logits = Float32Array.from({ length: 300 }, (_, id) => (id < 128 ? 0 : -2000));
  const row = rankLogits(logits);
  expect(row.ids).toContain(sampleToken({ ...row, temperedSum: 1000 }, { ...plain, seed: 3 }, 0));
});

test("draws each token as often as its probability says", () => {
  const logits = Float32Array.of(0, 1, 2, -1, 0.5);
  const sampling = { ...plain, temperature: 0.8, seed: 11 };
  const weights = Array.from(logits, (l) => Math.exp(l / 0.8));
  const total = weights.reduce((a, b) => a + b, 0);
  const row = rankLogits(logits, sampling.temperature);
  const n = 20_000;
  const counts = [0, 0, 0, 0, 0];
  for (let i = 0; i < n; i++) counts[sampleToken(row, sampling, i)]! += 1;
  counts.forEach((count, id) => {
    const p = (weights[id] as number) / total;
    expect(Math.abs(count - n * p)).toBeLessThan(5 * Math.sqrt(n * p * (1 - p)));
  });
});

test("repeats itself for one seed and differs for another", () => {
  const logits = logitsOf(200, 3);
  const draw = (seed: number) => Array.from({ length: 20 }, (_, i) => sample(logits, { ...plain, temperature: 2, seed }, i));
  expect(draw(5)).toEqual(draw(5));
  expect(draw(5)).not.toEqual(draw(6));
});
