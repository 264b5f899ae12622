import { readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { ZayaError } from "@zaya/kernels";
import { expectDiskRoom, makeFolder, singleWeights, weightIndex } from "@zaya/model/internal";
import { bytesOf, openModelCache } from "./cache.js";
import { fetchFile } from "./fetch_file.js";
import { createHubFetch, findModel, type RemoteFile, type RemoteModel } from "./hub.js";
import { indexedFiles, sideFiles } from "./model_files.js";

export interface DownloadOptions {
  /** Folder of the cache, `hub` of the folder that HF_HOME names. */
  readonly cacheDir: string;
  /** URL of the hub. Default https://huggingface.co. */
  readonly endpoint?: string | undefined;
  /** Access token, for private and gated models. */
  readonly token?: string | undefined;
  /** Branch, tag or commit. Default main. */
  readonly revision?: string | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Wait before a broken connection is tried again, doubled with each try that brings nothing. Default 1000. */
  readonly retryMilliseconds?: number | undefined;
}

export type DownloadEvent =
  | {
      readonly type: "download-start";
      readonly commit: string;
      readonly files: number;
      /** Bytes of all files, and those that are there already. */
      readonly totalBytes: number;
      readonly doneBytes: number;
    }
  /** Five times a second. */
  | { readonly type: "download-progress"; readonly doneBytes: number; readonly totalBytes: number }
  | { readonly type: "download-end"; readonly dir: string; readonly commit: string };

const filesAtOnce = 4;
const progressMilliseconds = 200;

/**
 * Downloads a model of a Hugging Face hub into the shared cache: the configuration, the weights and the tokenizer's files, four at a time. What is
 * there is not asked for again, what is there in part is gone on with, and every byte is held against the hub's hash. config.json comes last: a
 * folder that has one is complete. Leaving the loop or aborting stops it; what came stays.
 *
 * This lives in `@zaya/serve` because it speaks HTTP, which `@zaya/model` does not, and under a path of its own because an engine does not need it.
 *
 * @throws MODEL_NOT_FOUND, MODEL_GATED, HUB_UNREACHABLE, HUB_FAILED, DISK_FULL, CHECKSUM_MISMATCH, DOWNLOAD_LOCKED, or the signal's reason
 * @example
 * for await (const event of downloadModel("Zyphra/ZAYA1-8B", { cacheDir: "/data/hub" })) {
 *   if (event.type === "download-end") console.log(event.dir);
 * }
 */
export async function* downloadModel(model: string, options: DownloadOptions): AsyncGenerator<DownloadEvent, void, undefined> {
  const { cacheDir, endpoint = "https://huggingface.co", token, revision = "main", retryMilliseconds = 1000 } = options;
  const stop = new AbortController();
  const signal = options.signal ? AbortSignal.any([options.signal, stop.signal]) : stop.signal;
  signal.throwIfAborted();
  const access = { endpoint: endpoint.replace(/\/+$/, ""), token, signal };
  const cache = openModelCache(cacheDir, model);
  const remote = await findModel(model, revision, access);
  const { commit } = remote;
  const pathOf = (file: RemoteFile) => join(cache.snapshot(commit), file.name);

  let lock: Promise<AsyncDisposable> | undefined;
  let doneBytes = 0;
  const onBytes = (bytes: number) => {
    doneBytes += bytes;
  };
  const fetching = { fetch: createHubFetch(model, revision, access), signal, retryMilliseconds, onBytes };
  const get = async (file: RemoteFile): Promise<string> => {
    if ((await bytesOf(pathOf(file))) === file.bytes) return pathOf(file);
    lock ??= cache.lock();
    await lock;
    const blob = cache.blob(file.etag);
    await makeFolder(dirname(blob));
    if ((await bytesOf(blob)) !== file.bytes) await fetchFile(file, blob, fetching);
    await cache.link(commit, file.name, file.etag);
    return pathOf(file);
  };

  const failures: unknown[] = [];
  const work = async (queue: Iterable<RemoteFile>) => {
    try {
      for (const file of queue) await get(file);
    } catch (error) {
      failures.push(error);
      stop.abort(); // the others stop too
    }
  };
  let all: Promise<unknown> | undefined;
  try {
    const files = await neededFiles(model, remote, async (file) => readFile(await get(file), "utf8"));
    const there = await Promise.all(files.map((file) => bytesThere(file, pathOf(file), cache.blob(file.etag))));
    const totalBytes = sum(files.map(({ bytes }) => bytes));
    doneBytes = sum(there);
    if (doneBytes < totalBytes) {
      lock ??= cache.lock();
      await lock;
      await expectDiskRoom(cacheDir, totalBytes - doneBytes, { what: model, otherwise: "set HF_HUB_CACHE to a folder on another disk" });
    }
    yield { type: "download-start", commit, files: files.length, totalBytes, doneBytes };
    const [config, ...others] = files;
    const queue = others.values();
    let ended = false;
    all = Promise.all(Array.from({ length: filesAtOnce }, () => work(queue)))
      .then(() => (failures.length > 0 ? undefined : work([config as RemoteFile])))
      .then(() => {
        ended = true;
      });
    while (!ended) {
      await Promise.race([all, sleep(progressMilliseconds)]);
      if (!ended) yield { type: "download-progress", doneBytes, totalBytes };
    }
    if (failures.length > 0) throw failures[0];
  } finally {
    stop.abort();
    await all;
    await (await lock?.catch(() => null))?.[Symbol.asyncDispose]();
  }
  await cache.remember(revision, commit);
  yield { type: "download-end", dir: cache.snapshot(commit), commit };
}

/**
 * The folder of a model that is wholly in the cache, at the commit its revision was at last; null where a file is missing. Asks nobody.
 *
 * @example await cachedModel("Zyphra/ZAYA1-8B", { cacheDir: "/data/hub", revision: "main" })
 */
export async function cachedModel(
  model: string,
  { cacheDir, revision = "main" }: Pick<DownloadOptions, "cacheDir" | "revision">,
): Promise<string | null> {
  const cache = openModelCache(cacheDir, model);
  const commit = await cache.commitOf(revision);
  if (commit === null) return null;
  const dir = cache.snapshot(commit);
  const single = (await bytesOf(join(dir, singleWeights))) >= 0;
  const weights = single ? [singleWeights] : indexedFiles(await readFile(join(dir, weightIndex), "utf8").catch(() => ""));
  const sizes = await Promise.all(["config.json", ...weights].map((name) => bytesOf(join(dir, name))));
  return weights.length > 0 && sizes.every((bytes) => bytes >= 0) ? dir : null;
}

/** The files of a model that are downloaded, config.json first; of the weights those that its index names. */
async function neededFiles(model: string, { files }: RemoteModel, read: (file: RemoteFile) => Promise<string>): Promise<RemoteFile[]> {
  const index = files.get(weightIndex);
  const weights = files.has(singleWeights) ? [singleWeights] : index ? indexedFiles(await read(index)) : [];
  if (!files.has("config.json") || weights.length === 0) {
    throw new ZayaError("MODEL_NOT_FOUND", `${model} is on the hub, but has no config.json and *.safetensors to load`);
  }
  const names = [...sideFiles.filter((name) => files.has(name)), ...(weights[0] === singleWeights ? [] : [weightIndex]), ...weights];
  return names.map((name) => {
    const file = files.get(name);
    if (!file) throw new ZayaError("MODEL_NOT_FOUND", `${model}: ${weightIndex} names ${name}, which is not there`);
    return file;
  });
}

/** Bytes of a file that need not be downloaded. */
async function bytesThere(file: RemoteFile, path: string, blob: string): Promise<number> {
  for (const place of [path, blob]) if ((await bytesOf(place)) === file.bytes) return file.bytes;
  const part = await bytesOf(`${blob}.incomplete`);
  return part > file.bytes ? 0 : Math.max(0, part);
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, n) => total + n, 0);
}
