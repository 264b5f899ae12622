import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { type FileHandle, open, readFile, rename, rm, symlink } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fail } from "./errors.js";

/** Writes a file so that it is there wholly or not at all, also after a power failure. */
export async function writeAtomically(path: string, content: string | Uint8Array): Promise<void> {
  const temporary = `${path}.partial`;
  await using handle = await openFile(temporary, "w");
  await handle.writeFile(content);
  await handle.sync();
  await rename(temporary, path);
  await syncFolder(dirname(path));
}

/** Makes a symbolic link, or turns an existing one to another target, in one move. Removes what is at its path with `.partial`, also a folder. */
export async function linkAtomically(target: string, path: string): Promise<void> {
  const temporary = `${path}.partial`;
  await rm(temporary, { recursive: true, force: true });
  await symlink(target, temporary);
  await rename(temporary, path);
  await syncFolder(dirname(path));
}

/** Puts a folder's entries (new names, renames) on the disk. */
export async function syncFolder(path: string): Promise<void> {
  await using handle = await openFile(path, "r");
  await handle.sync();
}

/** A file handle that `await using` closes. */
export async function openFile(path: string, flags: string): Promise<FileHandle & AsyncDisposable> {
  const handle = await open(path, flags);
  return Object.assign(handle, { [Symbol.asyncDispose]: () => handle.close() });
}

export async function sha256OfFile(path: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(chunk as Buffer);
  return hash.digest("hex");
}

/**
 * The parsed JSON of a file, or null when there is no such file.
 * @throws INVALID_DATA naming the file when it is not JSON
 */
export async function readJson(path: string): Promise<unknown> {
  const text = await readFile(path, "utf8").catch((cause: NodeJS.ErrnoException) => {
    if (cause.code === "ENOENT" || cause.code === "ENOTDIR") return null;
    throw cause;
  });
  return text === null ? null : parseJson(text, path);
}

/** @throws INVALID_DATA naming the place when the text is not JSON */
export function parseJson(text: string, place: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    fail("INVALID_DATA", `${place}: not JSON (${(cause as Error).message})`, cause);
  }
}

/** Where things are in the folder of a run. */
export function runPaths(out: string) {
  return {
    run: join(out, "run.json"),
    lock: join(out, "lock"),
    metrics: join(out, "metrics.jsonl"),
    heldOut: join(out, "held-out.jsonl"),
    timings: join(out, "timings.jsonl"),
    tokenizer: join(out, "tokenizer"),
    tokens: join(out, "tokens"),
    checkpoints: join(out, "checkpoints"),
    latest: join(out, "latest"),
    best: join(out, "best"),
  };
}
