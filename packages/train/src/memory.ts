// Memory, planned on the null device: known before any of it is taken.
import { type Device, formatBytes, memoryLimit, openDevice, type Store, tensor } from "@zaya/kernels";
import { type ModelConfig, parameters } from "@zaya/model";
import { fail } from "./errors.js";
import { allocateTrainingState } from "./optimizer.js";
import { compileStep, type StepOptions } from "./step.js";

/** Bytes of tensors that stay, and of the arena. */
export interface PlannedMemory {
  readonly storeBytes: number;
  readonly arenaBytes: number;
}

/**
 * What a training step takes: weights, moments and sums of gradients stay; activations and gradients are in arenas. Without `workspaces`
 * what kernels want beside them is left out, and no addon needed.
 */
export function planTraining(config: ModelConfig, options: StepOptions, workspaces = true): Promise<PlannedMemory> {
  return planMemory((device, store) => {
    for (const { name, shape } of parameters(config)) store.allocate(name, tensor("float32", shape));
    allocateTrainingState(store, config, options);
    return compileStep(device, store, config, options);
  }, workspaces);
}

/** What comes of filling a store and compiling for it. */
export async function planMemory(
  compile: (device: Device, store: Store) => { readonly arenaBytes: number },
  workspaces = true,
): Promise<PlannedMemory> {
  await using device = await openDevice("null", { workspaces });
  await using store = device.createStore();
  const { arenaBytes } = compile(device, store);
  return { storeBytes: store.bytes(), arenaBytes };
}

/**
 * Refuses what needs more memory than there is: the system would end the process in the middle of it without a word.
 *
 * @throws INVALID_OPTIONS with the bytes that are needed and those that there are
 */
export function expectRoom(what: string, { storeBytes, arenaBytes }: PlannedMemory): void {
  const limit = memoryLimit();
  if (storeBytes + arenaBytes <= limit) return;
  fail(
    "INVALID_OPTIONS",
    `${what} takes ${formatBytes(storeBytes + arenaBytes)} of memory, ${formatBytes(storeBytes)} to hold the model and ${formatBytes(arenaBytes)} for activations, and there are ${formatBytes(limit)}; take less context, fewer windows or a smaller model`,
  );
}
