import { open, readFile, rm, stat } from "node:fs/promises";
import { hostname } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { ZayaError } from "@zaya/kernels";

export interface LockOptions {
  /** Code of the error that others get. */
  readonly code: string;
  /** What the one who has it is doing, as in "working in this folder". */
  readonly doing: string;
}

interface Holder {
  readonly pid: number;
  readonly host: string;
  /** Start time of the process in clock ticks after boot, where the system tells it: a later process may have the same id. */
  readonly started: string | null;
}

/** Times that a lock without a living owner is tried to be taken over. */
const maxAttempts = 20;
/** A file that is still empty after so long belongs to a process that was killed before it wrote its name. */
const namelessMilliseconds = 2000;

/**
 * Takes a lock, which is a file; disposing gives it back, once. The lock of a process that is gone is taken over; whether one of another machine is gone
 * cannot be told.
 *
 * @throws `code`, naming the process that has it
 * @example await using _lock = await takeLock(join(out, "lock"), { code: "RUN_LOCKED", doing: "working in this folder" });
 */
export async function takeLock(path: string, { code, doing }: LockOptions): Promise<AsyncDisposable> {
  const mine: Holder = { pid: process.pid, host: hostname(), started: await startOf(process.pid) };
  for (let attempt = 0; ; attempt++) {
    try {
      await writeNew(path, `${JSON.stringify(mine)}\n`);
      let held = true;
      return {
        async [Symbol.asyncDispose]() {
          if (held) await rm(path, { force: true });
          held = false;
        },
      };
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code !== "EEXIST") throw cause;
      const found = await readFile(path, "utf8").catch(() => null);
      if (attempt === maxAttempts || (found !== null && (await isHeld(path, found)))) {
        throw new ZayaError(code, `${path}: ${describe(parseHolder(found ?? ""))} is ${doing}; wait for it or stop it`, { cause });
      }
      if (found !== null) await removeDead(path, found);
    }
  }
}

/** Fails with EEXIST where the file is there. */
async function writeNew(path: string, content: string): Promise<void> {
  const handle = await open(path, "wx");
  try {
    await handle.writeFile(content);
  } catch (cause) {
    await rm(path, { force: true }); // as on a full disk: an empty one would hold others up
    throw cause;
  } finally {
    await handle.close();
  }
}

/**
 * Removes the file of a process that is gone, where no other has taken the lock over since it was read. One process at a time looks and removes; the
 * others wait for it.
 */
async function removeDead(path: string, found: string): Promise<void> {
  const guard = `${path}.takeover`;
  try {
    await writeNew(guard, "");
  } catch {
    if (!(await isYoung(guard))) await rm(guard, { force: true });
    return await sleep(20);
  }
  try {
    if ((await readFile(path, "utf8").catch(() => null)) === found) await rm(path, { force: true });
  } finally {
    await rm(guard, { force: true });
  }
}

function parseHolder(content: string): Holder | null {
  try {
    return JSON.parse(content) as Holder;
  } catch {
    return null;
  }
}

function describe(holder: Holder | null): string {
  if (!holder) return "another process";
  return `process ${holder.pid} on ${holder.host}${holder.host === hostname() ? "" : " (if it is gone, remove this file)"}`;
}

/** Whether the process that wrote this is there; one that has not written yet may be. */
async function isHeld(path: string, content: string): Promise<boolean> {
  const holder = parseHolder(content);
  return holder ? await isAlive(holder) : await isYoung(path);
}

/** Whether a file was written a moment ago. */
async function isYoung(path: string): Promise<boolean> {
  const { mtimeMs } = await stat(path).catch(() => ({ mtimeMs: 0 }));
  return Date.now() - mtimeMs < namelessMilliseconds;
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
  const status = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => null);
  const fields = status?.slice(status.lastIndexOf(")") + 2).split(" ") ?? [];
  return fields[0] === "Z" || fields[0] === "X" ? null : (fields[19] ?? null);
}
