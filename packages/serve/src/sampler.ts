import { ZayaError } from "@zaya/kernels";
import { uniform } from "./random.js";
import { type LogitRow, logitChunk } from "./runner.js";

/**
 * How the next token is drawn. p = softmax(logits / temperature), cut to the `topK` most probable tokens (0 = all), then to the smallest
 * set of them whose mass reaches `topP`, then to those with p ≥ minP · max p. Temperature 0 takes the arg-max, the lowest id where two tie.
 */
export interface Sampling {
  readonly temperature: number;
  readonly topK: number;
  readonly topP: number;
  readonly minP: number;
  /** Any safe integer. Draw `index` of a request depends on seed, stream and index alone, never on the rest of the batch. */
  readonly seed: number;
  /** Which of several choices from one seed. */
  readonly stream: number;
}

/**
 * Draws a token from one row of logits that was ranked at the temperature of `sampling`. Looks beyond the ranked tokens only where the draw, or what
 * the cuts leave, goes beyond them. Throws NON_FINITE_LOGITS where the model gave NaN or infinity.
 */
export function sampleToken(row: LogitRow, sampling: Sampling, index: number): number {
  const { values, ids, size, sum, temperedSum } = row;
  if (!Number.isFinite(sum)) {
    throw new ZayaError(
      "NON_FINITE_LOGITS",
      "the model gave logits that are not finite numbers; the checkpoint's weights contain NaN or infinity, or overflow",
    );
  }
  const { temperature, topK, topP, minP, seed, stream } = sampling;
  if (temperature === 0 || topK === 1) return ids[0] as number;
  const weights = Float64Array.from(values, (logit) => Math.exp((logit - (values[0] as number)) / temperature));
  const draw = uniform(seed, stream, index);
  if ((topK === 0 || topK >= size) && topP >= 1 && minP === 0) {
    const target = draw * temperedSum;
    return drawRanked(ids, weights, target) ?? drawUnranked(row, temperature, weights, target - total(weights));
  }
  const kept = countKept(row, weights, sampling);
  if (kept === null) {
    const cut = topP < 1 || (topK > 0 && topK < size) ? findCut(row, sampling) : everything;
    return drawBeyond(row, sampling, cut, weights, (mass) => draw * mass);
  }
  const rankedIds = ids.subarray(0, kept);
  return drawRanked(rankedIds, weights, draw * total(weights.subarray(0, kept))) ?? (rankedIds.at(-1) as number);
}

/** The first of the ranked tokens at which the sum of the weights exceeds the target. */
function drawRanked(ids: Int32Array, weights: Float64Array, target: number): number | null {
  let sum = 0;
  for (let i = 0; i < ids.length; i++) {
    sum += weights[i] as number;
    if (sum > target) return ids[i] as number;
  }
  return null;
}

/** The first of the tokens that are not ranked, by id, at which the sum of the weights exceeds the target; only the logits of its chunk are read. */
function drawUnranked(row: LogitRow, temperature: number, ranked: Float64Array, target: number): number {
  const { values, ids, size } = row;
  const top = values[0] as number;
  const lastValue = values.at(-1) as number;
  const lastId = ids.at(-1) as number;
  const masses = Float64Array.from(row.masses);
  ranked.forEach((weight, i) => {
    const chunk = Math.floor((ids[i] as number) / logitChunk);
    masses[chunk] = (masses[chunk] as number) - weight;
  });
  let chunk = 0;
  let sum = 0;
  for (; chunk < masses.length - 1; chunk++) {
    const mass = Math.max(0, masses[chunk] as number); // rounding may leave less than nothing
    if (sum + mass > target) break;
    sum += mass;
  }
  const begin = chunk * logitChunk;
  const logits = row.logits(begin, Math.min(size, begin + logitChunk));
  let drawn = lastId;
  for (let i = 0; i < logits.length && sum <= target; i++) {
    const logit = logits[i] as number;
    if (logit > lastValue || (logit === lastValue && begin + i <= lastId)) continue; // ranked
    const weight = Math.exp((logit - top) / temperature);
    sum += weight;
    if (weight > 0) drawn = begin + i;
  }
  return drawn;
}

/** How many of the ranked tokens the cuts keep; null where they keep tokens that are not ranked. */
function countKept({ size, temperedSum }: LogitRow, weights: Float64Array, { topK, topP, minP }: Sampling): number | null {
  const most = topK > 0 ? Math.min(topK, size) : size;
  if (most < size && most > weights.length) return null;
  const enough = topP >= 1 ? Number.POSITIVE_INFINITY : topP * (most < size ? total(weights.subarray(0, most)) : temperedSum);
  let mass = 0;
  for (let i = 0; i < weights.length; i++) {
    const weight = weights[i] as number;
    if (i === most || weight < minP || (i > 0 && mass >= enough)) return i;
    mass += weight;
  }
  return most === weights.length || mass >= enough ? weights.length : null;
}

/** Logits above `lowest`, and of those equal to it the first `ties` by id. */
interface Cut {
  readonly lowest: number;
  readonly ties: number;
}
const everything: Cut = { lowest: Number.NEGATIVE_INFINITY, ties: Number.POSITIVE_INFINITY };

/** Draws from all logits that the cut and min-p leave: the ranked tokens in their order, then the others by id. */
function drawBeyond(
  { values, ids, logits: read }: LogitRow,
  { temperature, minP }: Sampling,
  cut: Cut,
  ranked: Float64Array,
  targetOf: (mass: number) => number,
): number {
  const logits = read();
  const top = values[0] as number;
  const lastValue = values.at(-1) as number;
  const lastId = ids.at(-1) as number;
  const keptIds = new Int32Array(logits.length);
  const cumulative = new Float64Array(logits.length);
  let { ties } = cut;
  let count = 0;
  let sum = 0;
  const keep = (id: number, logit: number, weight: number) => {
    if (logit < cut.lowest || (logit === cut.lowest && ties-- <= 0) || weight < minP) return;
    sum += weight;
    keptIds[count] = id;
    cumulative[count++] = sum;
  };
  ranked.forEach((weight, i) => {
    keep(ids[i] as number, values[i] as number, weight);
  });
  for (let id = 0; id < logits.length; id++) {
    const logit = logits[id] as number;
    if (logit > lastValue || (logit === lastValue && id <= lastId)) continue; // ranked
    keep(id, logit, Math.exp((logit - top) / temperature));
  }
  const target = targetOf(sum);
  let low = 0;
  let high = count - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((cumulative[middle] as number) > target) high = middle;
    else low = middle + 1;
  }
  return keptIds[low] as number;
}

/** Steps of a 64th of the temperature below the largest logit; the last one holds all that is lower. */
const numSteps = 2048;

/** Where top-k and top-p cut: counts and masses of the logits of each step, of which only the one with the cut in it is sorted. */
function findCut({ values, temperedSum, logits: read }: LogitRow, { temperature, topK, topP }: Sampling): Cut {
  const logits = read();
  const top = values[0] as number;
  const weight = (logit: number) => Math.exp((logit - top) / temperature);
  const stepOf = (logit: number) => Math.min(numSteps - 1, Math.floor((64 * (top - logit)) / temperature));
  const counts = new Int32Array(numSteps);
  const masses = new Float64Array(numSteps);
  for (let id = 0; id < logits.length; id++) {
    const logit = logits[id] as number;
    const step = stepOf(logit);
    counts[step] = (counts[step] as number) + 1;
    masses[step] = (masses[step] as number) + weight(logit);
  }

  /** The cut below the largest logits, as soon as they are `most` or weigh `enough`. */
  const cutAt = (most: number, enough: number): Cut & { mass: number } => {
    let count = 0;
    let mass = 0;
    for (let step = 0; step < numSteps; step++) {
      const whole = mass + (masses[step] as number);
      if (count + (counts[step] as number) < most && whole < enough) {
        count += counts[step] as number;
        mass = whole;
        continue;
      }
      let lowest = Number.POSITIVE_INFINITY;
      let ties = 0;
      for (const logit of logits
        .filter((other) => stepOf(other) === step)
        .sort()
        .reverse()) {
        ties = logit === lowest ? ties + 1 : 1;
        lowest = logit;
        mass += weight(logit);
        if (++count === most || mass >= enough) break;
      }
      return { lowest, ties, mass };
    }
    return { ...everything, mass };
  };
  const isCut = topK > 0 && topK < logits.length;
  const first = isCut ? cutAt(topK, Number.POSITIVE_INFINITY) : { ...everything, mass: temperedSum };
  return topP < 1 ? cutAt(isCut ? topK : logits.length, topP * first.mass) : first;
}

function total(weights: Iterable<number>): number {
  let sum = 0;
  for (const weight of weights) sum += weight;
  return sum;
}
