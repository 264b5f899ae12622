import { createHash, type Hash } from "node:crypto";
import { createReadStream } from "node:fs";
import { type FileHandle, open, rename, rm } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { isZayaError, ZayaError } from "@zaya/kernels";
import type { RemoteFile } from "./hub.js";

export interface FetchFileOptions {
  readonly fetch: typeof fetch;
  readonly signal: AbortSignal;
  /** Wait before the first further try, doubled with each that brings nothing. */
  readonly retryMilliseconds: number;
  /** Told how many bytes came; negative where bytes were thrown away. */
  readonly onBytes: (bytes: number) => void;
}

/** Tries that bring no byte before a download gives up. */
const maxFailures = 5;
/** A connection that brings nothing for so long is closed and tried again. */
const stallMilliseconds = 30_000;

/**
 * Downloads a file to `path` by way of `path`.incomplete, which another call goes on from. The hash of all bytes is computed on the way and held against
 * the hub's before the file gets its name.
 *
 * Written here because the library's own download into the cache starts from nothing every time, does not look at the hash and leaves dropped connections to
 * the caller: with ranged requests for a commit, whose files never change, both are small.
 *
 * @throws CHECKSUM_MISMATCH after removing the bytes, DISK_FULL, what `fetch` throws, or the signal's reason
 */
export async function fetchFile(file: RemoteFile, path: string, options: FetchFileOptions): Promise<void> {
  const { signal, retryMilliseconds } = options;
  const incomplete = `${path}.incomplete`;
  const handle = await open(incomplete, "a");
  let received: Received;
  try {
    received = await readBack(file, handle, incomplete, signal);
    for (let failures = 0; received.bytes < file.bytes; ) {
      const before = received.bytes;
      try {
        await appendRest(file, received, handle, options);
      } catch (error) {
        signal.throwIfAborted();
        if (!isPassing(error)) throw error;
        failures = received.bytes > before ? 1 : failures + 1;
        if (failures > maxFailures) throw brokenOff(file, error);
        await sleep(retryMilliseconds * 2 ** (failures - 1), undefined, { signal }).catch(() => signal.throwIfAborted());
      }
    }
    await handle.sync();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOSPC") throw error;
    throw new ZayaError("DISK_FULL", `no space is left on the disk of ${incomplete}; free some and run again: what is there is kept`, {
      cause: error,
    });
  } finally {
    await handle.close();
  }
  if (received.bytes !== file.bytes || received.hash.digest("hex") !== file.etag) {
    await rm(incomplete);
    throw new ZayaError(
      "CHECKSUM_MISMATCH",
      `${file.name} is not what the hub says it is (${received.bytes} bytes, expected ${file.bytes} with hash ${file.etag.slice(0, 12)}…); ${incomplete} was removed, run again`,
    );
  }
  await rename(incomplete, path);
}

/** What is in the file so far. */
interface Received {
  bytes: number;
  hash: Hash;
}

async function readBack(file: RemoteFile, handle: FileHandle, path: string, signal: AbortSignal): Promise<Received> {
  const { size } = await handle.stat();
  const received = { bytes: 0, hash: emptyHash(file) };
  if (size > file.bytes) await handle.truncate(0);
  else if (size > 0) {
    for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) {
      signal.throwIfAborted();
      received.hash.update(chunk as Uint8Array);
    }
    received.bytes = size;
  }
  return received;
}

/** Git hashes a small file with its length before it. */
function emptyHash({ etag, bytes }: RemoteFile): Hash {
  return etag.length === 64 ? createHash("sha256") : createHash("sha1").update(`blob ${bytes}\0`);
}

/** Asks for what is missing and appends it as it comes. */
async function appendRest(file: RemoteFile, received: Received, handle: FileHandle, options: FetchFileOptions): Promise<void> {
  const stall = new AbortController();
  const timer = setTimeout(() => stall.abort(new Error("nothing came for 30 seconds")), stallMilliseconds);
  try {
    // Without "identity" a server may compress what it sends, and then a range is one of the compressed bytes.
    const headers = { "accept-encoding": "identity", ...(received.bytes > 0 ? { range: `bytes=${received.bytes}-` } : {}) };
    const response = await options.fetch(file.url, { headers, signal: stall.signal });
    if (received.bytes > 0 && !startsAt(response, received.bytes)) {
      options.onBytes(-received.bytes);
      await handle.truncate(0);
      Object.assign(received, { bytes: 0, hash: emptyHash(file) });
    }
    for await (const chunk of response.body ?? []) {
      timer.refresh();
      received.hash.update(chunk);
      await handle.appendFile(chunk);
      received.bytes += chunk.length;
      options.onBytes(chunk.length);
      if (received.bytes > file.bytes) return;
    }
    if (received.bytes < file.bytes) throw new Error("the connection was closed before the end");
  } finally {
    clearTimeout(timer);
    stall.abort();
  }
}

/** Whether an answer begins where it was asked to; a server that knows no ranges sends all. */
function startsAt(response: Response, offset: number): boolean {
  return response.status === 206 && response.headers.get("content-range")?.startsWith(`bytes ${offset}-`) === true;
}

function brokenOff(file: RemoteFile, cause: unknown): ZayaError {
  if (isZayaError(cause)) return cause;
  return new ZayaError("HUB_UNREACHABLE", `${file.name}: the connection breaks off again and again; run again to go on from here`, {
    cause,
  });
}

/** Connections that end early and servers that are busy are tried again; a refusal or a full disk is not. */
function isPassing(error: unknown): boolean {
  if (isZayaError(error)) return error.code === "HUB_UNREACHABLE" || error.code === "HUB_FAILED";
  return (error as NodeJS.ErrnoException).syscall !== "write" && (error as NodeJS.ErrnoException).code !== "ENOSPC";
}
