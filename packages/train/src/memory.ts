// The memory of a training step, planned on the null device: known before any of it is taken.
import { memoryLimit, openDevice, tensor } from "@zaya/kernels";
import { type ModelConfig, parameters } from "@zaya/model";
import { fail } from "./errors.js";
import { allocateTrainingState } from "./optimizer.js";
import { compileStep, type StepOptions } from "./step.js";

export interface TrainingMemory {
  /** Float32 weights and the optimizer's tensors, and sums of gradients where a step has several microbatches. */
  readonly storeBytes: number;
  /** Activations and gradients: the arenas of all executables of a step, without kernels' workspaces. */
  readonly arenaBytes: number;
}

export async function planMemory(config: ModelConfig, options: StepOptions): Promise<TrainingMemory> {
  await using device = await openDevice("null");
  await using store = device.createStore();
  for (const { name, shape } of parameters(config)) store.allocate(name, tensor("float32", shape));
  allocateTrainingState(store, config, options);
  await using step = compileStep(device, store, config, options);
  return { storeBytes: store.bytes(), arenaBytes: step.arenaBytes };
}

/**
 * Refuses a step that needs more memory than there is: the system would end the process in the middle of it without a word.
 *
 * @throws INVALID_OPTIONS with the bytes that are needed and those that there are
 */
export async function expectRoom(config: ModelConfig, options: StepOptions): Promise<void> {
  const { storeBytes, arenaBytes } = await planMemory(config, options);
  const limit = memoryLimit();
  if (storeBytes + arenaBytes <= limit) return;
  const giga = (bytes: number) => `${(bytes / 1e9).toFixed(1)} GB`;
  fail(
    "INVALID_OPTIONS",
    `a step takes ${giga(storeBytes + arenaBytes)} of memory, ${giga(storeBytes)} for weights and moments and ${giga(arenaBytes)} for activations, and there are ${giga(limit)}; take less context, fewer windows or a smaller model`,
  );
}
