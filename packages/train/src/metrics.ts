// metrics.jsonl holds what a run computed: one line a step and one an evaluation, the same whether it was interrupted or not.
// timings.jsonl holds what depends on the clock. Both are cut back to the checkpoint from which a run goes on.
import { readFile } from "node:fs/promises";
import { fail } from "./errors.js";
import { openFile, writeAtomically } from "./files.js";

type Line = Readonly<Record<string, number | null>> & { readonly step: number };

export interface MetricsFile extends AsyncDisposable {
  /** The lines that were there, without those removed. */
  readonly kept: readonly Line[];
  append(line: Line): Promise<void>;
  /** Puts everything appended on the disk. */
  sync(): Promise<void>;
}

/**
 * Opens a file of metrics to append after `step`. Lines of later steps are removed, and so is everything from a line on that cannot be read,
 * as a killed process or a power failure leaves it. With `dropUnreadable` such lines are removed wherever they are.
 *
 * @throws INVALID_DATA naming file and line, where one that cannot be read comes before that of `step`
 */
export async function openMetrics(path: string, step: number, { dropUnreadable = false } = {}): Promise<MetricsFile> {
  const text = await readFile(path, "utf8").catch((cause: NodeJS.ErrnoException) => {
    if (cause.code === "ENOENT") return "";
    throw cause;
  });
  const kept: Line[] = [];
  let newest = 0;
  for (const [i, content] of text.split("\n").entries()) {
    if (content.trim() === "") continue;
    const line = parseLine(content);
    if (line) {
      newest = line.step;
      if (newest <= step) kept.push(line);
    } else if (!dropUnreadable) {
      if (newest >= step) break;
      const advice = "restore the file, or remove the line, which the run can do without";
      fail("INVALID_DATA", `${path}:${i + 1}: not a line of metrics, before that of step ${step}, from which the run goes on; ${advice}`);
    }
  }
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

/** Null for what is no line of metrics. */
function parseLine(text: string): Line | null {
  try {
    const line = JSON.parse(text) as Line | null;
    return typeof line?.step === "number" ? line : null;
  } catch {
    return null;
  }
}
