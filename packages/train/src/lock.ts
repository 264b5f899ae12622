import { readFile, rename, rm } from "node:fs/promises";
import { hostname } from "node:os";
import { fail } from "./errors.js";
import { openFile } from "./files.js";

interface Holder {
  readonly pid: number;
  readonly host: string;
  /** Start time of the process in clock ticks after boot, where the system tells it: a later process may have the same id. */
  readonly started: string | null;
}

/**
 * Takes the lock of a run folder; disposing gives it back. The lock of a process that is gone is taken over.
 *
 * @throws RUN_LOCKED naming the process that has it
 */
export async function takeLock(path: string): Promise<AsyncDisposable> {
  const mine: Holder = { pid: process.pid, host: hostname(), started: await startOf(process.pid) };
  for (let attempt = 0; ; attempt++) {
    try {
      await writeNew(path, `${JSON.stringify(mine)}\n`);
      return { [Symbol.asyncDispose]: () => rm(path, { force: true }) };
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code !== "EEXIST") throw cause;
      const holder = await readHolder(path);
      if (attempt > 2 || (holder && (await isAlive(holder)))) {
        fail("RUN_LOCKED", `${path}: process ${holder?.pid} on ${holder?.host} is working in this folder; wait for it or stop it`, cause);
      }
      // Moving it away first: of two processes that find a dead lock only one succeeds, and neither removes a new one.
      const aside = `${path}.${process.pid}`;
      await rename(path, aside).catch(() => {});
      await rm(aside, { force: true });
    }
  }
}

/** Fails with EEXIST where the file is there. */
async function writeNew(path: string, content: string): Promise<void> {
  await using handle = await openFile(path, "wx");
  await handle.writeFile(content);
}

async function readHolder(path: string): Promise<Holder | null> {
  try {
    return JSON.parse(await readFile(path, "utf8")) as Holder;
  } catch {
    return null; // gone meanwhile, or its writer was killed before it wrote
  }
}

async function isAlive({ pid, host, started }: Holder): Promise<boolean> {
  if (host !== hostname()) return true; // cannot be told from here
  try {
    process.kill(pid, 0);
  } catch (cause) {
    return (cause as NodeJS.ErrnoException).code === "EPERM";
  }
  return (await startOf(pid)) === started;
}

/** When a process was started; null when it is gone, or dead and only not yet reaped. */
async function startOf(pid: number): Promise<string | null> {
  const stat = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => null);
  const fields = stat?.slice(stat.lastIndexOf(")") + 2).split(" ") ?? [];
  return fields[0] === "Z" || fields[0] === "X" ? null : (fields[19] ?? null);
}
