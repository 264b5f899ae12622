import type { ModelConfig } from "./config.js";
import { expectWholeNumber } from "./errors.js";
import { normalQuantiles } from "./normal_quantiles.js";
import { elements, type ParameterSpec, parameters } from "./parameters.js";
import { type PhiloxKey, philox, philoxKey } from "./philox.js";

/** A parameter with its values, row by row. */
export interface NamedTensor {
  readonly name: string;
  readonly data: Float32Array;
}

/**
 * A new model's parameters, one at a time, in the order and with the rule of `parameters`.
 * Each depends only on the seed, its name and its shape: the same on every machine and in any order.
 *
 * @throws CONFIG_INVALID, or INVALID_ARGUMENT for a seed that is no whole number ≥ 0
 * @example for (const { name, data } of initialise(presets["zaya-tiny"], 1)) console.log(name, data.length);
 */
export function initialise(config: ModelConfig, seed: number): Generator<NamedTensor> {
  expectWholeNumber("seed", seed, 0);
  return initialEach(parameters(config), seed);
}

function* initialEach(specs: readonly ParameterSpec[], seed: number): Generator<NamedTensor> {
  for (const spec of specs) yield { name: spec.name, data: initialValues(spec, seed) };
}

/** The values of one parameter, row by row. */
export function initialValues(spec: ParameterSpec, seed: number): Float32Array {
  const key = philoxKey(seed);
  const { init } = spec;
  const data = new Float32Array(elements(spec));
  switch (init.type) {
    case "constant":
      return data.fill(init.value);
    case "balancing":
      data[data.length - 1] = -1; // the skip class
      return data;
    case "normal":
      fillNormal(data, init.std, spec.name, key);
      return data;
    case "near-identity": {
      fillNormal(data, init.std, spec.name, key);
      const inputs = spec.shape[1] as number;
      for (let channel = 0; channel * inputs * 2 < data.length; channel++) {
        const current = (channel * inputs + (channel % inputs)) * 2 + 1; // tap 0 is the column before, tap 1 the current one
        data[current] = (data[current] as number) + 1;
      }
      return data;
    }
  }
}

/** Normal values from the stream of this name: counter = (eight elements a step, hash of the name), 16 bits an element. */
function fillNormal(data: Float32Array, std: number, name: string, key: PhiloxKey): void {
  const words = new Uint32Array(4);
  const stream = nameStream(name);
  const quantiles = normalQuantiles();
  for (let i = 0; i < data.length; i += 8) {
    const step = i / 8;
    philox(step >>> 0, Math.floor(step / 2 ** 32), stream, 0, key, words);
    const elements = Math.min(8, data.length - i);
    for (let e = 0; e < elements; e++) {
      const word = words[e >>> 1] as number;
      data[i + e] = std * (quantiles[e & 1 ? word >>> 16 : word & 0xffff] as number);
    }
  }
}

/** The stream of random numbers that belongs to a name (FNV-1a). */
export function nameStream(name: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < name.length; i++) hash = Math.imul(hash ^ name.charCodeAt(i), 0x01000193);
  return hash >>> 0;
}
