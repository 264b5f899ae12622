import { ZayaError } from "@zaya/kernels";
import { uniform } from "./random.js";

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

/** Draws a token from one row of logits, [V]. Throws NON_FINITE_LOGITS where the model gave NaN or infinity. */
export function sampleToken(logits: Float32Array, sampling: Sampling, index: number): number {
  const best = argmax(logits);
  const { temperature, topK, topP, minP, seed, stream } = sampling;
  if (temperature === 0 || topK === 1) return best;
  const top = logits[best] as number;
  const cut = topK > 0 || topP < 1 ? findCut(logits, top, sampling) : { lowest: Number.NEGATIVE_INFINITY, ties: 0 };
  const ids = new Int32Array(logits.length);
  const cumulative = new Float64Array(logits.length);
  let { ties } = cut;
  let count = 0;
  let sum = 0;
  for (let id = 0; id < logits.length; id++) {
    const logit = logits[id] as number;
    if (logit < cut.lowest || (logit === cut.lowest && ties-- <= 0)) continue;
    const weight = Math.exp((logit - top) / temperature);
    if (weight < minP) continue;
    sum += weight;
    ids[count] = id;
    cumulative[count++] = sum;
  }
  const target = uniform(seed, stream, index) * sum;
  let low = 0;
  let high = count - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((cumulative[middle] as number) > target) high = middle;
    else low = middle + 1;
  }
  return ids[low] as number;
}

/** The id of the largest logit, the lowest where several tie. */
export function argmax(logits: Float32Array): number {
  let best = 0;
  let top = Number.NEGATIVE_INFINITY;
  let sum = 0;
  for (let i = 0; i < logits.length; i++) {
    const logit = logits[i] as number;
    sum += logit;
    if (logit > top) {
      top = logit;
      best = i;
    }
  }
  if (Number.isNaN(sum) || top === Number.POSITIVE_INFINITY || top === Number.NEGATIVE_INFINITY) {
    throw new ZayaError(
      "NON_FINITE_LOGITS",
      "the model gave logits that are not finite numbers; the checkpoint's weights contain NaN or infinity, or overflow",
    );
  }
  return best;
}

/** What top-k and top-p keep: logits above `lowest`, and of those equal to it the first `ties` by id. */
interface Cut {
  readonly lowest: number;
  readonly ties: number;
}

/** Sorts only as far down as the cut is: logits above a floor, which is lowered until the cut is above it. */
function findCut(logits: Float32Array, top: number, { temperature, topK, topP }: Sampling): Cut {
  const weight = (logit: number) => Math.exp((logit - top) / temperature);
  const most = topK > 0 ? Math.min(topK, logits.length) : logits.length;
  let all = 0;
  if (most === logits.length) for (let id = 0; id < logits.length; id++) all += weight(logits[id] as number);
  const buffer = new Float32Array(logits.length);

  for (let floor = 1e-3; ; floor = floor > 1e-12 ? floor * 1e-3 : 0) {
    const floorLogit = top + temperature * Math.log(floor);
    let count = 0;
    for (let id = 0; id < logits.length; id++) {
      const logit = logits[id] as number;
      if (logit >= floorLogit) buffer[count++] = logit;
    }
    const above = buffer.subarray(0, count).sort();
    const complete = floor === 0 || (most < logits.length && above.length >= most);
    const kept = above.subarray(Math.max(0, above.length - most));
    const total = most === logits.length ? all : kept.reduce((sum, logit) => sum + weight(logit), 0);
    let mass = 0;
    let first = kept.length;
    while (first > 0 && (first === kept.length || mass < topP * total)) mass += weight(kept[--first] as number);
    if (!complete && (most < logits.length || mass < topP * total)) continue;
    const lowest = kept[first] as number;
    let end = first;
    while (end < kept.length && kept[end] === lowest) end++;
    return { lowest, ties: end - first };
  }
}

/** The ids of the k largest logits, largest first, the lower id first where two tie. */
export function largest(logits: Float32Array, k: number): number[] {
  const n = Math.min(k, logits.length);
  const heap: number[] = [];
  const worse = (a: number, b: number) => {
    const difference = (logits[a] as number) - (logits[b] as number);
    return difference < 0 || (difference === 0 && a > b);
  };
  const sink = (from: number) => {
    let at = from;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) return;
      if (child + 1 < heap.length && worse(heap[child + 1] as number, heap[child] as number)) child++;
      if (!worse(heap[child] as number, heap[at] as number)) return;
      [heap[at], heap[child]] = [heap[child] as number, heap[at] as number];
      at = child;
    }
  };
  for (let id = 0; id < logits.length; id++) {
    if (heap.length < n) {
      heap.push(id);
      if (heap.length === n) for (let i = (n >> 1) - 1; i >= 0; i--) sink(i);
    } else if (n > 0 && worse(heap[0] as number, id)) {
      heap[0] = id;
      sink(0);
    }
  }
  return heap.sort((a, b) => (worse(a, b) ? 1 : -1));
}
