import { initialise, parameters, presets } from "@zaya/model";
import { expect, test } from "vitest";
import { evenBiases, simulateRouters } from "./calibrate.js";

test("finds biases under which every expert wins equally often", () => {
  const E = 8;
  const samples = 2000;
  const p = new Float32Array(samples * (E + 1));
  for (let s = 0; s < samples; s++) {
    for (let e = 0; e <= E; e++) p[s * (E + 1) + e] = 0.1 + 0.02 * e + 0.1 * Math.sin(12.9898 * s + 78.233 * e * s);
  }
  const biases = evenBiases(p, E);
  const counts = new Array<number>(E + 1).fill(0);
  for (let s = 0; s < samples; s++) {
    const scores = Array.from({ length: E + 1 }, (_, e) => (p[s * (E + 1) + e] as number) + (biases[e] as number));
    const best = scores.indexOf(Math.max(...scores));
    counts[best] = (counts[best] ?? 0) + 1;
  }
  expect(biases[E]).toBe(-1);
  expect(counts[E]).toBe(0);
  expect((Math.max(...counts) * E) / samples).toBeLessThan(1.05);
});

test("gives every layer of a fresh model finite biases, the same for the same seed", () => {
  const config = presets["zaya-tiny"];
  const router = new Set(
    parameters(config)
      .filter(({ name }) => name.includes(".mlp.gate."))
      .map(({ name }) => name),
  );
  const weights = new Map([...initialise(config, 7)].filter(({ name }) => router.has(name)).map(({ name, data }) => [name, data]));
  const find = () =>
    simulateRouters(config, (layer, name) => weights.get(`model.layers.${layer}.mlp.gate.${name}`) as Float32Array, 7, 256);
  const biases = find();
  expect(biases.map((each) => each.length)).toEqual(new Array(config.numLayers).fill(config.numExperts + 1));
  expect(biases.every((each) => each.every(Number.isFinite) && each.at(-1) === -1)).toBe(true);
  expect(find()).toEqual(biases);
});
