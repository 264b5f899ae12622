import { readdir, rename, stat } from "node:fs/promises";
import { join } from "node:path";
import { checkpointIn, exists, holdsCheckpoint, singleWeights } from "../shards.js";

/** What an interrupted run left in its folder; "all" where only the journal was still to be removed. */
export type Left = "nothing" | "parts" | "all";

/**
 * Makes sure that no checkpoint is there, and that what an interrupted run left can be continued: also one that was stopped between giving the
 * weights their name and writing config.json. A dry run only looks.
 *
 * @throws CHECKPOINT_EXISTS
 */
export async function prepareFolder(out: string, journal: string, dryRun: boolean): Promise<Left> {
  const resumes = await exists(journal);
  const there = await checkpointIn(out);
  if (there !== undefined) {
    if (!resumes || !["config.json", singleWeights].includes(there)) holdsCheckpoint(out, there);
    if (there === "config.json") return "all";
    if (!dryRun) await rename(join(out, there), join(out, `${there}.partial`));
  }
  return resumes ? "parts" : "nothing";
}

/** Names, sizes and times of what a checkpoint consists of. */
export async function sourceFiles(dir: string): Promise<readonly unknown[]> {
  const names = (await readdir(dir)).filter((name) => name === "config.json" || name.endsWith(".safetensors")).sort();
  return await Promise.all(
    names.map(async (name) => {
      const { size, mtimeMs } = await stat(join(dir, name));
      return [name, size, mtimeMs];
    }),
  );
}
