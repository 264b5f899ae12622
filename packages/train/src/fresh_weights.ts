import { type Store, tensor } from "@zaya/kernels";
import { initialise, type ModelConfig, parameters } from "@zaya/model";
import { biasName, simulateRouters } from "./calibrate.js";

/** Fills a store with the float32 weights of a new model: random ones, with balancing biases under which its experts are about evenly used. */
export async function writeFreshWeights(store: Store, config: ModelConfig, seed: number): Promise<void> {
  const shapes = new Map(parameters(config).map(({ name, shape }) => [name, shape]));
  for (const { name, data } of initialise(config, seed))
    await store.write(name, tensor("float32", shapes.get(name) ?? [data.length]), data);
  if (config.kind !== "zaya") return;
  const router = (layer: number, name: string) => store.read(`model.layers.${layer}.mlp.gate.${name}`) as Float32Array;
  for (const [layer, biases] of simulateRouters(config, router, seed).entries()) {
    await store.write(biasName(layer), tensor("float32", [biases.length]), biases);
  }
}
