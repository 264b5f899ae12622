// metrics.jsonl holds what a run computed: one line a step and one an evaluation, the same whether it was interrupted or not.
// timings.jsonl holds what depends on the clock. Both are cut back to the checkpoint from which a run goes on.
import { readFile } from "node:fs/promises";
import { openFile, parseJson, writeAtomically } from "./files.js";

export interface MetricsFile extends AsyncDisposable {
  /** The lines that were there, without those removed. */
  readonly kept: readonly Readonly<Record<string, number | null>>[];
  append(line: Readonly<Record<string, number | null>> & { readonly step: number }): Promise<void>;
  /** Puts everything appended on the disk. */
  sync(): Promise<void>;
}

/**
 * Opens a file of metrics to append after `step`: later lines, and the half line of a killed process, are removed.
 * @throws INVALID_DATA naming file and line, where another one is no JSON
 */
export async function openMetrics(path: string, step: number): Promise<MetricsFile> {
  const text = await readFile(path, "utf8").catch((cause: NodeJS.ErrnoException) => {
    if (cause.code === "ENOENT") return "";
    throw cause;
  });
  const lines = text.split("\n").slice(0, -1); // what follows the last newline is nothing, or half a line
  const kept = lines
    .map((line, i) => parseJson(line, `${path}:${i + 1}`) as Record<string, number | null> | null)
    .filter((line) => line !== null && Number(line.step) <= step) as Record<string, number | null>[];
  const wanted = kept.map((line) => `${JSON.stringify(line)}\n`).join("");
  if (wanted !== text) await writeAtomically(path, wanted);
  const handle = await openFile(path, "a");
  return {
    kept,
    async append(line) {
      await handle.appendFile(`${JSON.stringify(line)}\n`);
    },
    sync: () => handle.sync(),
    [Symbol.asyncDispose]: () => handle.close(),
  };
}
