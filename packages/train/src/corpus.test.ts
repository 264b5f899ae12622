import { mkdir, mkdtemp, readdir, readFile, readlink, rename, truncate, utimes, writeFile } from "node:fs/promises";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { type CorpusOptions, openCorpus } from "./corpus.js";
import { cutWindows, sampleWindows, splitDocuments } from "./windows.js";

/** One token a UTF-8 byte, ids from 3. */
const byteTokenizer = {
  vocabSize: 259,
  bosTokenId: 2,
  eosTokenId: 1,
  encode: (text: string) => [...Buffer.from(text)].map((byte) => byte + 3),
  tokenBytes: (id: number) => Uint8Array.of(id - 3),
};
const idOf = (letter: string) => letter.charCodeAt(0) + 3;

async function corpusOf(texts: readonly (string | object)[], options: Partial<CorpusOptions> = {}) {
  const folder = await mkdtemp(join(tmpdir(), "corpus-"));
  await writeFile(join(folder, "data.jsonl"), texts.map((text) => JSON.stringify(text)).join("\n"));
  const all: CorpusOptions = {
    files: [join(folder, "data.jsonl")],
    tokenizer: byteTokenizer,
    tokenizerFingerprint: "bytes",
    fields: ["text"],
    maxLength: 1000,
    cache: join(folder, "tokens"),
    ...options,
  };
  const corpus = await openCorpus(all);
  onTestFinished(() => corpus[Symbol.asyncDispose]());
  return { corpus, all, folder };
}

test("removes what processes that are gone have begun, and leaves what others do", async () => {
  const cache = await mkdtemp(join(tmpdir(), "corpus-"));
  const gone = 2 ** 22 + 1; // above the largest number of a process
  const [dead, own, living, far] = [
    `${hostname()}-${gone}`,
    `${hostname()}-${process.pid}`,
    `${hostname()}-${process.ppid}`,
    `far-${gone}`,
  ];
  for (const owner of [dead, own, living, far]) await mkdir(join(cache, `0123.partial-${owner}`));
  await corpusOf(["abc"], { cache });
  const left = (await readdir(cache)).filter((name) => name.includes(".partial-"));
  expect(left.sort()).toEqual([`0123.partial-${living}`, `0123.partial-${far}`].sort());
});

test.each([
  { what: "the same tokens", texts: ["abc"] },
  { what: "other tokens", texts: ["def"] },
])("leaves alone what another call of this process is writing: $what", async ({ texts }) => {
  const cache = await mkdtemp(join(tmpdir(), "corpus-"));
  let second: ReturnType<typeof corpusOf> | undefined;
  const encode = (text: string) => {
    second ??= corpusOf(texts, { cache });
    return byteTokenizer.encode(text);
  };
  // Others have their turn after each document: the second call ends before the first.
  const { corpus } = await corpusOf(new Array(2000).fill("abc"), { cache, tokenizer: { ...byteTokenizer, encode } });
  expect(corpus.numDocuments).toBe(2000);
  expect((await second)?.corpus.numDocuments).toBe(1);
});

test("keeps ids, document boundaries and bytes, and finds them again", async () => {
  const { corpus, all, folder } = await corpusOf(["abc", "é"]);
  expect([...(await corpus.read(0, corpus.numTokens))]).toEqual([2, 100, 101, 102, 1, 2, 0xc3 + 3, 0xa9 + 3, 1]);
  expect([...corpus.starts]).toEqual([0, 5, 9]);
  expect([...corpus.documentBytes]).toEqual([3, 2]);
  expect(corpus.cached).toBe(false);
  const again = await openCorpus(all);
  expect(again.cached).toBe(true);
  expect(again.fingerprint).toBe(corpus.fingerprint);
  expect((await readdir(join(folder, "tokens"))).length).toBe(1);
});

test.each([
  { text: "<abc>", ids: [2, 100, 101, 102, 1], bytes: 3 },
  { text: "<abc", ids: [2, 100, 101, 102, 1], bytes: 3 },
  { text: "<<a<>b>>", ids: [2, 100, 2, 1, 101, 1], bytes: 4 },
  { text: "é>", ids: [2, 0xc3 + 3, 0xa9 + 3, 1], bytes: 2 },
  { text: { text: "<ab", continues: true }, ids: [2, 100, 101], bytes: 2 },
  { text: { text: "<ab>", continues: true }, ids: [2, 100, 101, 1], bytes: 2 },
])("begins with one bos and ends with one eos where the text has them: $text", async ({ text, ids, bytes }) => {
  const special: Record<string, number> = { "<": 2, ">": 1 };
  const encode = (part: string) => [...part].flatMap((letter) => special[letter] ?? byteTokenizer.encode(letter));
  const tokenBytes = (id: number) => Uint8Array.of(id);
  const { corpus } = await corpusOf([text, "<>"], { tokenizer: { ...byteTokenizer, encode, tokenBytes } });
  expect([...(await corpus.read(0, corpus.numTokens))]).toEqual(ids);
  expect([...corpus.documentBytes]).toEqual([bytes]);
});

test("opens a file once for all that read it at the same time, and closes it", async () => {
  const { corpus, folder } = await corpusOf(["abc", "def"]);
  const open = async () => {
    const links = await Promise.all((await readdir("/proc/self/fd")).map((fd) => readlink(`/proc/self/fd/${fd}`).catch(() => "")));
    return links.filter((link) => link.startsWith(folder)).length;
  };
  await Promise.all([0, 2, 4, 6].map((at) => corpus.read(at, at + 2)));
  expect(await open()).toBe(1);
  await corpus[Symbol.asyncDispose]();
  expect(await open()).toBe(0);
});

test("stores ids above 65535 in four bytes", async () => {
  const wide = { ...byteTokenizer, vocabSize: 300_000, encode: (text: string) => [...text].map(() => 299_999) };
  const { corpus } = await corpusOf(["ab"], { tokenizer: wide });
  expect([...(await corpus.read(0, 4))]).toEqual([2, 299_999, 299_999, 1]);
});

test("finds the tokens of a file that was touched or moved, but not where its lines are other documents", async () => {
  const { all, corpus, folder } = await corpusOf(["abc", "é"]);
  const [file, moved, text] = [all.files[0] as string, join(folder, "moved.jsonl"), join(folder, "moved.txt")];
  await utimes(file, 1, 1);
  const { fingerprint } = corpus;
  expect(await openCorpus(all)).toMatchObject({ cached: true, fingerprint });
  await rename(file, moved);
  expect(await openCorpus({ ...all, files: [moved] })).toMatchObject({ cached: true, fingerprint });
  expect(await readdir(all.cache)).toHaveLength(1);
  await rename(moved, text);
  expect(await openCorpus({ ...all, files: [text] })).toMatchObject({ cached: false, numDocuments: 1 });
});

test("stops while it reads what the files are, and makes nothing", async () => {
  const { all, folder } = await corpusOf(["abc"]);
  const signal = AbortSignal.abort(new Error("enough"));
  await expect(openCorpus({ ...all, cache: join(folder, "other"), signal })).rejects.toThrow("enough");
  expect((await readdir(folder)).sort()).toEqual(["data.jsonl", "tokens"]);
});

test("tokenises again when a file changes", async () => {
  const { all, corpus } = await corpusOf(["abc"]);
  await writeFile(all.files[0] as string, '"abcd"');
  const changed = await openCorpus(all);
  expect(changed.cached).toBe(false);
  expect(changed.fingerprint).not.toBe(corpus.fingerprint);
});

test.each<[string, string, (path: string) => Promise<void>]>([
  ["a manifest that is not JSON", "manifest.json", (path) => writeFile(path, '{"formatVersion": 1, ')],
  ["a manifest of another number of bytes", "manifest.json", (path) => replace(path, '"bytes":5', '"bytes":6')],
  ["a manifest of wider tokens", "manifest.json", (path) => replace(path, "uint16", "uint32")],
  ["documents cut short", "documents.bin", (path) => truncate(path, 8)],
  ["documents of other sizes", "documents.bin", (path) => writeFile(path, new Uint8Array(16))],
  ["tokens cut short", "tokens-00000.bin", (path) => truncate(path, 8)],
  ["other tokens", "tokens-00000.bin", (path) => writeFile(path, new Uint8Array(18))],
])("tokenises again where the cache has %s", async (_what, file, damage) => {
  const { corpus, all, folder } = await corpusOf(["abc", "é"]);
  const [key = ""] = await readdir(join(folder, "tokens"));
  await damage(join(folder, "tokens", key, file));
  await using again = await openCorpus(all);
  expect(again.cached).toBe(false);
  expect(again.fingerprint).toBe(corpus.fingerprint);
  expect([...(await again.read(0, again.numTokens))]).toEqual([2, 100, 101, 102, 1, 2, 0xc3 + 3, 0xa9 + 3, 1]);
  await using third = await openCorpus(all);
  expect(third.cached).toBe(true);
  expect(await readdir(join(folder, "tokens"))).toEqual([key]);
});

async function replace(path: string, part: string, by: string): Promise<void> {
  const text = await readFile(path, "utf8");
  expect(text).toContain(part);
  await writeFile(path, text.replace(part, by));
}

test("refuses files without text", async () => {
  await expect(corpusOf([])).rejects.toThrow(/no text in/);
});

test("predicts every token but the first of each document once, within its document", async () => {
  const texts = ["abcdefgh", "x", "ijklmnopqrstuvwxyz", "12"];
  const { corpus } = await corpusOf(texts);
  const windows = cutWindows(corpus, [0, 1, 2, 3], 7);
  const seen: number[] = [];
  for (let first = 0; first < windows.count; first += 2) {
    const batch = await windows.batch(Array.from({ length: Math.min(2, windows.count - first) }, (_, i) => first + i));
    expect(batch.cuSeqlens.at(-1)).toBe(batch.ids.length);
    for (let s = 0; s + 1 < batch.cuSeqlens.length; s++) {
      const [begin, end] = [batch.cuSeqlens[s] as number, batch.cuSeqlens[s + 1] as number];
      expect([...batch.positions.subarray(begin, end)]).toEqual(Array.from({ length: end - begin }, (_, i) => i));
      // Inside a sequence a label is the next input, and no sequence holds a document's end as an input.
      expect([...batch.labels.subarray(begin, end - 1)]).toEqual([...batch.ids.subarray(begin + 1, end)]);
      expect([...batch.ids.subarray(begin, end)]).not.toContain(1);
    }
    seen.push(...batch.labels);
  }
  expect(seen).toEqual(texts.flatMap((text) => [...byteTokenizer.encode(text), 1]));
  expect(windows.numPairs).toBe(seen.length);
  expect(windows.numBytes).toBe(29);
});

test("trains on the last, shorter window too, in one microbatch with a full one", async () => {
  const { corpus } = await corpusOf(["abcdefgh", "xyz"]);
  const windows = cutWindows(corpus, [0, 1], 5);
  expect([windows.numPairs, windows.count]).toEqual([13, 3]);
  const epochs = [0, 1].map((epoch) => [0, 1, 2].flatMap((part) => sampleWindows(1, windows.count, 3 * epoch + part, 1)));
  for (const drawn of epochs) expect([...drawn].sort()).toEqual([0, 1, 2]);
  const { ids, labels, positions, cuSeqlens } = await windows.batch([2, 0]);
  expect([...ids]).toEqual([..."xyz"].map(idOf).concat(2, [..."abcd"].map(idOf)));
  expect([...labels]).toEqual([..."yz"].map(idOf).concat(1, [..."abcde"].map(idOf)));
  expect([...positions]).toEqual([0, 1, 2, 0, 1, 2, 3, 4]);
  expect([...cuSeqlens]).toEqual([0, 3, 8]);
});

test("holds out a fixed share of the documents, at least one of two", () => {
  const equal = (documents: number) => startsOf(new Array(documents).fill(1));
  const { training, heldOut } = splitDocuments(equal(100), 0.05);
  expect(heldOut.length).toBe(5);
  expect([...training, ...heldOut].sort((a, b) => a - b)).toEqual(Array.from({ length: 100 }, (_, i) => i));
  expect(splitDocuments(equal(2), 0.01).heldOut.length).toBe(1);
  expect(splitDocuments(equal(1), 0.5)).toEqual({ training: [0], heldOut: [] });
  expect(splitDocuments(equal(100), 0).heldOut).toEqual([]);
});

function startsOf(sizes: readonly number[]): number[] {
  let end = 0;
  return [0, ...sizes.map((size) => (end += size))];
}

test.each<[string, number[], number, number[]]>([
  ["the smaller of two documents", [11_900, 4_260], 0.05, [1]],
  ["the smallest where none is within the share", [900, 800, 1000], 0.1, [1]],
  ["one of two that are equal", [500, 500], 0.01, [0]],
  ["nothing of one document", [16_000], 0.05, []],
  ["nothing when nothing is asked for", [100, 100, 100], 0, []],
])("holds out %s", (_what, sizes, fraction, expected) => {
  const { training, heldOut } = splitDocuments(startsOf(sizes), fraction);
  expect(heldOut).toEqual(expected);
  expect(training).toEqual(sizes.map((_, d) => d).filter((d) => !expected.includes(d)));
});

test("holds out a share of the tokens, never more than half of them", () => {
  const sizes = Array.from({ length: 300 }, (_, d) => 50 + ((d * 7919) % 1000));
  const total = sizes.reduce((sum, size) => sum + size, 0);
  for (const fraction of [0.001, 0.05, 0.3, 0.5, 0.9]) {
    const { heldOut } = splitDocuments(startsOf(sizes), fraction);
    const held = heldOut.reduce((sum, document) => sum + (sizes[document] as number), 0);
    const wanted = Math.min(fraction, 0.5) * total;
    expect(held).toBeLessThanOrEqual(Math.round(wanted));
    expect(held).toBeGreaterThan(wanted - 100);
  }
});

test("draws every window once an epoch, whatever the microbatches", () => {
  const drawn = [0, 1, 2, 3].flatMap((microbatch) => sampleWindows(3, 8, microbatch, 2));
  expect([...drawn].sort()).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
  expect([0, 1].flatMap((microbatch) => sampleWindows(3, 8, microbatch, 4))).toEqual(drawn);
  expect([4, 5, 6, 7].flatMap((microbatch) => sampleWindows(3, 8, microbatch, 2))).not.toEqual(drawn);
});
