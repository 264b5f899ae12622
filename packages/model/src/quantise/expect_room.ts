import { formatBytes, maxBytes, memoryLimit } from "@zaya/kernels";
import type { Checkpoint } from "../checkpoint.js";
import { fail } from "../errors.js";
import { storedType } from "../graph/weights.js";
import { parameters } from "../parameters.js";
import { exactStorage } from "../weights.js";

/**
 * Refuses to run models whose weights cannot fit before any is loaded: the system would end the process in the middle of it without a word. The run
 * layout is mapped and takes no memory of its own.
 *
 * @param doing what they are run for
 * @throws INVALID_ARGUMENT
 */
export function expectRoomToRun(checkpoints: readonly Checkpoint[], doing: string, memory = memoryLimit()): void {
  const loaded = checkpoints.filter(({ weights }) => !weights);
  const bytes = loaded.reduce((all, checkpoint) => {
    const storage = exactStorage(checkpoint);
    return all + parameters(checkpoint.config).reduce((sum, spec) => sum + maxBytes(storedType(spec, storage)), 0);
  }, 0);
  if (bytes <= memory) return;
  const names = loaded.map(({ dir }) => dir).join(" and ");
  fail(
    "INVALID_ARGUMENT",
    `${doing} runs ${names}, whose weights of ${formatBytes(bytes)} have no room in ${formatBytes(memory)} of memory; quantize --to bf16 makes a checkpoint that is mapped instead`,
  );
}
