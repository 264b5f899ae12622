// Tokenised text on disk, so that a run starts at once the second time:
//   <cache>/<key>/tokens-00000.bin …   ids, uint16 or uint32 little-endian, at most 2^26 a file
//   <cache>/<key>/documents.bin        uint32 pairs (tokens, UTF-8 bytes), one a document
//   <cache>/<key>/manifest.json        written last; the folder gets its name only when it is complete
// The key is a hash of the files' content and kind, the tokenizer and how documents are cut: files that were touched or moved have the tokens that
// are there. What is not what was written is written again: reading and hashing takes far less time than tokenising.
import { createHash, randomUUID } from "node:crypto";
import { createReadStream } from "node:fs";
import { mkdir, readdir, readFile, rename, rm, stat } from "node:fs/promises";
import { hostname } from "node:os";
import { basename, join } from "node:path";
import type { Tokenizer } from "@zaya/model";
import { makeFolder } from "@zaya/model/internal";
import { z } from "zod";
import { cutTail, type Document, holdsRecords, readBytes, readDocuments } from "./documents.js";
import { fail } from "./errors.js";
import { openFile, readJson, writeAtomically } from "./files.js";

const formatVersion = 2;
const shardTokens = 2 ** 26;
/** Names of the folders that this process is writing. */
const inProgress = new Set<string>();

/** The tokens of all documents, one after the other, and where each document lies. */
export interface Corpus extends AsyncDisposable {
  readonly numDocuments: number;
  readonly numTokens: number;
  /** UTF-8 bytes of the text, without a bos before it and an eos after it. */
  readonly numBytes: number;
  /** Document d owns the tokens from starts[d] to starts[d + 1]. */
  readonly starts: Float64Array;
  /** UTF-8 bytes of each document. */
  readonly documentBytes: Uint32Array;
  /** sha256 of tokens and documents: equal exactly for equal corpora. */
  readonly fingerprint: string;
  /** Whether the tokens were there already. */
  readonly cached: boolean;
  read(begin: number, end: number): Promise<Int32Array>;
}

export interface CorpusOptions {
  readonly files: readonly string[];
  readonly tokenizer: Pick<Tokenizer, "encode" | "tokenBytes" | "vocabSize" | "bosTokenId" | "eosTokenId">;
  /** Tells tokenizers apart. */
  readonly tokenizerFingerprint: string;
  readonly fields: readonly string[];
  /** Characters after which a long text goes on in another document. */
  readonly maxLength: number;
  /** Share of every text that becomes a document of its own. */
  readonly tail?: number | undefined;
  /** Folder of the cache. */
  readonly cache: string;
  readonly signal?: AbortSignal | undefined;
}

const Manifest = z.object({
  formatVersion: z.literal(formatVersion),
  dtype: z.enum(["uint16", "uint32"]),
  tokens: z.int().min(0),
  documents: z.int().min(1),
  bytes: z.int().min(0),
  sha256: z.string(),
});
type Manifest = z.output<typeof Manifest>;

/** What is known of tokens on disk. */
interface Cache extends Manifest {
  readonly starts: Float64Array;
  readonly documentBytes: Uint32Array;
}

/**
 * Tokenises files, or opens the tokens made before. A document is [bos] text [eos]; one that was cut has no eos, its continuation has bos.
 * A text that has them already, as one that a chat template made, gets no second ones; one that has nothing else is no document.
 *
 * @throws INVALID_DATA when a file cannot be read or the files hold no text
 */
export async function openCorpus(options: CorpusOptions): Promise<Corpus> {
  const folder = join(options.cache, await keyOf(options));
  const known = await readCache(folder, options.signal);
  if (!known) await tokenise(options, folder);
  const cache =
    known ??
    (await readCache(folder, options.signal)) ??
    fail("INVALID_DATA", `${folder}: the token cache was changed while it was being opened`);
  return openTokens(folder, cache, known !== null);
}

async function keyOf({ files, tokenizerFingerprint, fields, maxLength, tail, signal }: CorpusOptions): Promise<string> {
  const described: unknown[] = [];
  for (const file of files) {
    const hash = createHash("sha256");
    for await (const bytes of readBytes(file)) {
      signal?.throwIfAborted();
      hash.update(bytes);
    }
    described.push([holdsRecords(file), hash.digest("hex")]);
  }
  const key = JSON.stringify({ formatVersion, tokenizerFingerprint, fields, maxLength, tail, described });
  return createHash("sha256").update(key).digest("hex").slice(0, 16);
}

/** A complete cache, or null where there is none or a file of it is not what was written. */
async function readCache(folder: string, signal?: AbortSignal): Promise<Cache | null> {
  const manifest = Manifest.safeParse(await readJson(join(folder, "manifest.json")).catch(() => null)).data;
  const index = await readFile(join(folder, "documents.bin")).catch(() => null);
  if (!manifest || index?.length !== 8 * manifest.documents) return null;
  const counts = new Uint32Array(Uint8Array.from(index).buffer);
  const starts = new Float64Array(manifest.documents + 1);
  for (let d = 0; d < manifest.documents; d++) starts[d + 1] = (starts[d] as number) + (counts[2 * d] as number);
  const documentBytes = counts.filter((_, i) => i % 2 === 1);
  const bytes = documentBytes.reduce((sum, size) => sum + size, 0);
  if (starts[manifest.documents] !== manifest.tokens || bytes !== manifest.bytes) return null;

  const hash = createHash("sha256");
  for (let first = 0; first < manifest.tokens; first += shardTokens) {
    const path = join(folder, shardName(first / shardTokens));
    const size = Math.min(shardTokens, manifest.tokens - first) * bytesOf(manifest);
    if ((await stat(path).catch(() => null))?.size !== size) return null;
    for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) {
      signal?.throwIfAborted();
      hash.update(chunk as Buffer);
    }
  }
  if (hash.update(index).digest("hex") !== manifest.sha256) return null;
  return { ...manifest, starts, documentBytes };
}

/** Bytes of a token. */
function bytesOf({ dtype }: Pick<Manifest, "dtype">): number {
  return dtype === "uint16" ? 2 : 4;
}

function shardName(index: number): string {
  return `tokens-${String(index).padStart(5, "0")}.bin`;
}

async function tokenise(options: CorpusOptions, folder: string): Promise<void> {
  const { tokenizer, signal, files } = options;
  const dtype = tokenizer.vocabSize <= 65536 ? "uint16" : "uint32";
  // A name for every call: two of one process may make the same tokens.
  const name = `${basename(folder)}-${randomUUID()}.partial-${hostname()}-${process.pid}`;
  const temporary = join(options.cache, name);
  await makeFolder(options.cache);
  await removeAbandoned(options.cache);
  const hash = createHash("sha256");
  const documents: number[] = [];
  let tokens = 0;
  let bytes = 0;
  let buffered: number[] = [];
  inProgress.add(name);
  try {
    await mkdir(temporary);
    const flush = async (all: boolean) => {
      while (buffered.length > 0 && (all || buffered.length >= 1 << 20)) {
        const written = tokens - buffered.length;
        const room = shardTokens - (written % shardTokens);
        const part = buffered.slice(0, room);
        buffered = buffered.slice(room);
        const data = Buffer.from((dtype === "uint16" ? Uint16Array.from(part) : Uint32Array.from(part)).buffer);
        hash.update(data);
        await using shard = await openFile(join(temporary, shardName(Math.floor(written / shardTokens))), "a");
        await shard.writeFile(data);
        await shard.sync();
      }
    };
    for await (const { text, complete } of documentsOf(options)) {
      signal?.throwIfAborted();
      const document = encodeDocument(text, complete, tokenizer);
      if (document === null) continue;
      for (const id of document.ids) buffered.push(id);
      tokens += document.ids.length;
      documents.push(document.ids.length, document.bytes);
      bytes += document.bytes;
      await flush(false);
      await yieldToEvents();
    }
    await flush(true);
    if (documents.length === 0) fail("INVALID_DATA", `no text in ${files.join(", ")}`);
    const index = Buffer.from(Uint32Array.from(documents).buffer);
    hash.update(index);
    await writeAtomically(join(temporary, "documents.bin"), index);
    const manifest: Manifest = { formatVersion, dtype, tokens, documents: documents.length / 2, bytes, sha256: hash.digest("hex") };
    await writeAtomically(join(temporary, "manifest.json"), `${JSON.stringify(manifest)}\n`);
    await rename(temporary, folder).catch(async (cause: NodeJS.ErrnoException) => {
      // Another run made the same tokens meanwhile, or a cache of an older format or a damaged one is there.
      if (cause.code !== "ENOTEMPTY" && cause.code !== "EEXIST") throw cause;
      if (await readCache(folder, signal)) return;
      await rm(folder, { recursive: true });
      await rename(temporary, folder);
    });
  } finally {
    await rm(temporary, { recursive: true, force: true });
    inProgress.delete(name);
  }
}

async function* documentsOf({ tail, files, ...options }: CorpusOptions): AsyncGenerator<Document> {
  for await (const document of readDocuments(files, options)) {
    if (tail === undefined) yield document;
    else yield* cutTail(document, tail);
  }
}

/** The tokens of a document, and the UTF-8 bytes of those between bos and eos; null where there are none. */
function encodeDocument(
  text: string,
  complete: boolean,
  { encode, tokenBytes, bosTokenId, eosTokenId }: CorpusOptions["tokenizer"],
): { readonly ids: number[]; readonly bytes: number } | null {
  const ids = encode(text, { addSpecialTokens: false });
  let begin = 0;
  let end = ids.length;
  while (begin < end && ids[begin] === bosTokenId) begin++;
  while (begin < end && ids[end - 1] === eosTokenId) end--;
  if (begin === end) return null;
  const isOver = complete || end < ids.length;
  const dropped = [...ids.slice(0, begin), ...ids.slice(end)];
  return {
    ids: [...(bosTokenId === null ? [] : [bosTokenId]), ...ids.slice(begin, end), ...(isOver && eosTokenId !== null ? [eosTokenId] : [])],
    bytes: dropped.reduce((bytes, id) => bytes - tokenBytes(id).length, Buffer.byteLength(text)),
  };
}

/** Removes what processes of this machine that are gone, or had the number of this one, have begun in a cache. */
async function removeAbandoned(cache: string): Promise<void> {
  for (const name of await readdir(cache)) {
    const [, host, pid] = /\.partial-(.*)-(\d+)$/.exec(name) ?? [];
    if (host === hostname() && !inProgress.has(name) && !isAlive(Number(pid)))
      await rm(join(cache, name), { recursive: true, force: true });
  }
}

/** Whether another process of this number is there. */
function isAlive(pid: number): boolean {
  try {
    return pid !== process.pid && process.kill(pid, 0);
  } catch (cause) {
    return (cause as NodeJS.ErrnoException).code === "EPERM";
  }
}

function openTokens(folder: string, cache: Cache, cached: boolean): Corpus {
  const width = bytesOf(cache);
  const shards: (ReturnType<typeof openFile> | undefined)[] = [];
  return {
    numDocuments: cache.documents,
    numTokens: cache.tokens,
    numBytes: cache.bytes,
    starts: cache.starts,
    documentBytes: cache.documentBytes,
    fingerprint: cache.sha256,
    cached,
    async read(begin, end) {
      const out = new Int32Array(end - begin);
      for (let at = begin; at < end; ) {
        const index = Math.floor(at / shardTokens);
        const stop = Math.min(end, (index + 1) * shardTokens);
        shards[index] ??= openFile(join(folder, shardName(index)), "r");
        const shard = await shards[index];
        const bytes = new Uint8Array((stop - at) * width);
        const { bytesRead } = await shard.read(bytes, 0, bytes.length, (at % shardTokens) * width);
        if (bytesRead !== bytes.length)
          fail("INVALID_DATA", `${join(folder, shardName(index))} is shorter than its manifest says; remove ${folder} to tokenise again`);
        out.set(width === 2 ? new Uint16Array(bytes.buffer) : new Uint32Array(bytes.buffer), at - begin);
        at = stop;
      }
      return out;
    },
    async [Symbol.asyncDispose]() {
      for (const opened of await Promise.allSettled(shards.splice(0))) if (opened.status === "fulfilled") await opened.value?.close();
    },
  };
}

function yieldToEvents(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
