import { createHash } from "node:crypto";
import { type FileHandle, open, readFile, rm } from "node:fs/promises";

/**
 * What of a long job is done, beside its partial files: a line of JSON with hashes of what was asked for and of all that the result depends on, then one for every part that was
 * written, with the part's hash. A line that a kill cut short is dropped; a part counts only where the bytes that are there have its hash.
 */
export interface Journal extends AsyncDisposable {
  /** Hashes of the parts that an earlier run of the same job wrote, by `partKey`. */
  readonly done: ReadonlyMap<string, string>;
  add(key: string, hash: string): Promise<void>;
  /** Removes the file: the job is done. */
  remove(): Promise<void>;
}

export function partKey(name: string, offset: number): string {
  return `${name} ${offset}`;
}

export function hashOf(bytes: NodeJS.TypedArray | string): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/** Opens the journal of a job, and begins it anew where there is none or it belongs to another job. */
export async function openJournal(path: string, fingerprint: string, request: string): Promise<Journal> {
  const done = await readJournal(path, fingerprint);
  const handle: FileHandle = await open(path, done ? "a" : "w");
  // A line that was cut short stays behind this newline and is dropped again.
  await handle.write(done ? "\n" : `${JSON.stringify({ fingerprint, request })}\n`);
  return {
    done: done ?? new Map(),
    async add(key, hash) {
      await handle.write(`${JSON.stringify({ key, hash })}\n`);
    },
    async remove() {
      await handle.close();
      await rm(path, { force: true });
    },
    [Symbol.asyncDispose]: () => handle.close(),
  };
}

/** The parts that the journal of a job names as done; null where there is none of this job. */
export async function readJournal(path: string, fingerprint: string): Promise<Map<string, string> | null> {
  const text = await readFile(path, "utf8").catch(() => null);
  if (text === null) return null;
  const [first, ...lines] = text.split("\n").map(parse);
  if (first?.fingerprint !== fingerprint) return null;
  return new Map(lines.flatMap((line) => (line?.key !== undefined && line.hash !== undefined ? [[line.key, line.hash]] : [])));
}

/** The hash of what the job of a journal was asked for; null where that cannot be told. */
export async function requestOf(path: string): Promise<string | null> {
  const text = await readFile(path, "utf8").catch(() => "");
  return parse(text.slice(0, text.indexOf("\n")))?.request ?? null;
}

function parse(
  line: string,
): { readonly fingerprint?: string; readonly request?: string; readonly key?: string; readonly hash?: string } | null {
  try {
    return JSON.parse(line) as ReturnType<typeof parse>;
  } catch {
    return null;
  }
}
