import { formatBytes, memoryLimit, ZayaError } from "@zaya/kernels";
import { type Checkpoint, describe, storedType, type WeightStorage } from "@zaya/model";
import type { CacheDtype } from "./model_runner.js";
import { pageTokens, type RunnerLimits } from "./runner.js";

/**
 * Refuses what cannot fit before anything is loaded: the system would end the process in the middle of it without a word. Weights that are mapped
 * take no memory of their own.
 *
 * @throws INVALID_ARGUMENT where weights, keys and values need more bytes than the machine, or the control group of the process, has in all
 */
export function expectRoom(
  checkpoint: Checkpoint,
  weights: WeightStorage,
  cacheDtype: CacheDtype,
  { numPages, numSlots }: Pick<RunnerLimits, "numPages" | "numSlots">,
): void {
  const context = (numPages * pageTokens) / numSlots;
  const typeOf = (spec: Parameters<typeof storedType>[0]) => storedType(spec, weights);
  const { parts } = describe(checkpoint.config, { typeOf, cacheDtype, sequences: numSlots, context }).memoryToServe;
  const weightBytes = checkpoint.weights ? 0 : (parts.weights as number);
  const cacheBytes = parts.state as number;
  const there = memoryLimit();
  if (weightBytes + cacheBytes <= there) return;
  const cache = `a cache of ${formatBytes(cacheBytes)}`;
  const [what, quantise] = checkpoint.weights
    ? [cache, ""]
    : [`weights of ${formatBytes(weightBytes)} and ${cache}`, "quantise the checkpoint, or "];
  throw new ZayaError(
    "INVALID_ARGUMENT",
    `there is no room for ${what} in ${formatBytes(there)} of memory; ${quantise}take less context or fewer sequences`,
  );
}
