// Balancing biases for which a fresh model uses its experts evenly.
//
// A random router prefers some experts on any input, as its last hidden layer has a mean. Two ways to find biases against that:
//   simulateRouters   without running the model: a fresh model's normed residual stream is close to isotropic, so W_down x + b is normal
//                     with covariance W_down W_downᵀ, for rows of deviation 1/√D about the identity; each layer's r is that plus the
//                     previous r times its scale. The router's MLP is run on such samples. Cost: L · samples · 2R² products.
//   balanceByForward  from there, with the real forward pass on real or random tokens, a few rounds.
import { createGraph, type Device, type Store, tensor } from "@zaya/kernels";
import { buildLoss, type ModelConfig, type WeightStorage } from "@zaya/model";
import { philox, philoxKey } from "@zaya/model/internal";
import { batchInputs } from "./step.js";
import type { Batch } from "./windows.js";

/** Name of a layer's balancing biases. */
export function biasName(layer: number): string {
  return `model.layers.${layer}.mlp.gate.balancing_biases`;
}

type Zaya = Extract<ModelConfig, { kind: "zaya" }>;

/** Balancing biases [E+1] of every layer from its router's weights alone. `weight` gives a router tensor of a layer, row by row. */
export function simulateRouters(
  config: Zaya,
  weight: (layer: number, name: string) => Float32Array,
  seed: number,
  samples = 1024,
): Float32Array[] {
  const { routerSize: R, numExperts: E, numLayers } = config;
  const previous = new Float32Array(samples * R);
  const r = new Float32Array(samples * R);
  return Array.from({ length: numLayers }, (_, layer) => {
    fillNormal(r, seed, layer);
    const bias = weight(layer, "down_proj.bias");
    const scale = layer > 0 ? weight(layer, "router_states_scale") : null;
    for (let i = 0; i < r.length; i++) {
      r[i] = (r[i] as number) + (bias[i % R] as number) + (scale ? (previous[i] as number) * (scale[i % R] as number) : 0);
    }
    previous.set(r);
    const normed = rmsNorm(r, weight(layer, "router_mlp.norm.weight"), config.rmsNormEps);
    const first = gelu(linear(normed, weight(layer, "router_mlp.fc1.weight"), R, weight(layer, "router_mlp.fc1.bias")));
    const second = gelu(linear(first, weight(layer, "router_mlp.fc2.weight"), R, weight(layer, "router_mlp.fc2.bias")));
    return evenBiases(softmax(linear(second, weight(layer, "router_mlp.out_proj.weight"), R, null), E + 1), E);
  });
}

/**
 * Biases b [E+1] under which argmax(p + b) falls on every expert equally often, for probabilities p [samples, E+1]; the skip class keeps −1.
 * Each round moves every bias against its expert's excess; the rate shrinks, so that it settles.
 */
export function evenBiases(p: Float32Array, numExperts: number): Float32Array {
  const classes = numExperts + 1;
  const samples = p.length / classes;
  const biases = new Float32Array(classes);
  biases[numExperts] = -1;
  for (let rate = 0.2 / numExperts; rate > 0.0005 / numExperts; rate *= 0.97) {
    const counts = new Float64Array(classes);
    for (let s = 0; s < samples; s++) {
      let best = 0;
      for (let e = 1; e < classes; e++) {
        if ((p[s * classes + e] as number) + (biases[e] as number) > (p[s * classes + best] as number) + (biases[best] as number)) best = e;
      }
      counts[best] = (counts[best] as number) + 1;
    }
    for (let e = 0; e < numExperts; e++) {
      const excess = ((counts[e] as number) * numExperts) / samples - 1;
      biases[e] = (biases[e] as number) - rate * Math.max(-1, Math.min(1, excess));
    }
  }
  return biases;
}

/**
 * Improves the biases in a store by running the model on batches, one a round, and moving each bias against its expert's excess.
 * Returns max/mean expert load of the worst layer in the last round. Aborting rejects with the signal's reason after the round in progress.
 */
export async function balanceByForward(
  device: Device,
  store: Store,
  config: Zaya,
  {
    batches,
    rounds,
    weights,
    signal,
  }: {
    readonly batches: readonly Batch[];
    readonly rounds: number;
    readonly weights: WeightStorage;
    readonly signal?: AbortSignal | undefined;
  },
): Promise<number> {
  const graph = createGraph();
  const maxTokens = Math.max(...batches.map(({ ids }) => ids.length));
  const { forward } = buildLoss(graph, config, { maxTokens, maxSequences: maxTokens, weights });
  forward.layers.forEach(({ routing }, layer) => {
    if (routing) graph.output(`counts.${layer}`, routing.counts);
  });
  graph.output("hidden", forward.hidden);
  await using executable = device.compile(graph, store);
  const E = config.numExperts;
  let worst = 0;
  for (let round = 0; round < rounds; round++) {
    signal?.throwIfAborted();
    const batch = batches[round % batches.length] as Batch;
    const results = await executable.run({ inputs: { ...batchInputs(batch), labels: batch.labels } });
    const rate = (0.1 / E) * 0.05 ** (round / rounds);
    worst = 0;
    for (let layer = 0; layer < config.numLayers; layer++) {
      const counts = (results[`counts.${layer}`] as Float32Array).subarray(0, E);
      const routed = counts.reduce((sum, n) => sum + n, 0);
      worst = Math.max(worst, (Math.max(...counts) * E) / routed);
      const biases = store.read(biasName(layer)) as Float32Array;
      counts.forEach((n, e) => {
        biases[e] = (biases[e] as number) - rate * Math.max(-1, Math.min(1, (n * E) / routed - 1));
      });
      await store.write(biasName(layer), tensor("float32", [E + 1]), biases);
    }
  }
  return worst;
}

/** Normal numbers by Box-Muller from the stream (seed, stream). */
function fillNormal(out: Float32Array, seed: number, stream: number): void {
  const words = new Uint32Array(4);
  for (let i = 0; i < out.length; i += 4) {
    philox(i / 4, 0, stream, 3, philoxKey(seed), words);
    for (let pair = 0; pair < 4; pair += 2) {
      const radius = Math.sqrt(-2 * Math.log(((words[pair] as number) + 1) / 2 ** 32));
      const angle = (2 * Math.PI * (words[pair + 1] as number)) / 2 ** 32;
      out[i + pair] = radius * Math.cos(angle);
      out[i + pair + 1] = radius * Math.sin(angle);
    }
  }
}

function rmsNorm(x: Float32Array, weight: Float32Array, eps: number): Float32Array {
  const R = weight.length;
  const out = new Float32Array(x.length);
  for (let row = 0; row < x.length; row += R) {
    let sum = 0;
    for (let i = 0; i < R; i++) sum += (x[row + i] as number) ** 2;
    const factor = 1 / Math.sqrt(sum / R + eps);
    for (let i = 0; i < R; i++) out[row + i] = (x[row + i] as number) * factor * (weight[i] as number);
  }
  return out;
}

/** x [S,R] · w [N,R]ᵀ + bias [N] */
function linear(x: Float32Array, w: Float32Array, R: number, bias: Float32Array | null): Float32Array {
  const N = w.length / R;
  const rows = x.length / R;
  const out = new Float32Array(rows * N);
  for (let row = 0; row < rows; row++) {
    for (let n = 0; n < N; n++) {
      let sum = bias ? (bias[n] as number) : 0;
      for (let i = 0; i < R; i++) sum += (x[row * R + i] as number) * (w[n * R + i] as number);
      out[row * N + n] = sum;
    }
  }
  return out;
}

/** Exact GELU; erf by Abramowitz and Stegun 7.1.26, error below 1.5e-7. */
function gelu(x: Float32Array): Float32Array {
  return x.map((value) => {
    const z = Math.abs(value) / Math.SQRT2;
    const t = 1 / (1 + 0.3275911 * z);
    const tail = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t * Math.exp(-z * z);
    return value * 0.5 * (1 + Math.sign(value) * (1 - tail));
  });
}

function softmax(x: Float32Array, columns: number): Float32Array {
  const out = new Float32Array(x.length);
  for (let row = 0; row < x.length; row += columns) {
    const values = x.subarray(row, row + columns);
    const top = values.reduce((a, b) => Math.max(a, b));
    let sum = 0;
    for (let i = 0; i < columns; i++) sum += out[row + i] = Math.exp((values[i] as number) - top);
    for (let i = 0; i < columns; i++) out[row + i] = (out[row + i] as number) / sum;
  }
  return out;
}
