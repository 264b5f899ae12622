import { createHash } from "node:crypto";
import { mkdir, mkdtemp, readdir, readFile, readlink, rm, stat, writeFile } from "node:fs/promises";
import { hostname, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { cachedModel, type DownloadEvent, type DownloadOptions, downloadModel } from "./download.js";
import { type LoopbackHub, openLoopbackHub } from "./testing.js";

const model = "org/tiny";
const bytes = (length: number, seed: number) => Uint8Array.from({ length }, (_, i) => (i * 31 + seed * 101 + (i >> 8)) & 255);
const first = bytes(300_000, 1);
const second = bytes(200_001, 2);
const files = {
  "config.json": Buffer.from('{"model_type":"zaya"}'),
  "README.md": Buffer.from("not needed"),
  "pytorch_model.bin": bytes(5000, 3),
  "tokenizer.json": bytes(4000, 4),
  "chat_template.jinja": Buffer.from("{{ messages }}"),
  "model.safetensors.index.json": Buffer.from(
    JSON.stringify({ weight_map: { a: "model-00001-of-00002.safetensors", b: "model-00002-of-00002.safetensors" } }),
  ),
  "model-00001-of-00002.safetensors": first,
  "model-00002-of-00002.safetensors": second,
  "other.safetensors": bytes(3000, 5),
};
const wanted = Object.keys(files).filter((name) => !["README.md", "pytorch_model.bin", "other.safetensors"].includes(name));
const shard = "model-00001-of-00002.safetensors";
const blobOf = (content: Uint8Array) => join(cacheDir, "models--org--tiny", "blobs", createHash("sha256").update(content).digest("hex"));

let cacheDir: string;
let hub: LoopbackHub;

beforeEach(async () => {
  cacheDir = join(await mkdtemp(join(tmpdir(), "zaya-hub-")), "hub");
  hub = await openLoopbackHub(model, files);
});
afterEach(async () => {
  await hub[Symbol.asyncDispose]();
  await rm(dirname(cacheDir), { recursive: true });
});

async function download(options: Partial<DownloadOptions> = {}, name = model): Promise<DownloadEvent[]> {
  const events: DownloadEvent[] = [];
  for await (const event of downloadModel(name, { cacheDir, endpoint: hub.endpoint, retryMilliseconds: 1, ...options })) events.push(event);
  return events;
}

async function expectWhole(): Promise<string> {
  const dir = join(cacheDir, "models--org--tiny", "snapshots", hub.commit);
  expect((await readdir(dir)).sort()).toEqual([...wanted].sort());
  for (const name of wanted) expect((await readFile(join(dir, name))).equals(files[name as keyof typeof files]), name).toBe(true);
  const blobs = await readdir(join(cacheDir, "models--org--tiny", "blobs"));
  expect(blobs.filter((blob) => blob.endsWith(".incomplete"))).toEqual([]);
  return dir;
}

test("puts what loading needs, and nothing else, into the layout that all tools of the hub share", async () => {
  const events = await download();
  const dir = await expectWhole();
  const totalBytes = wanted.reduce((sum, name) => sum + files[name as keyof typeof files].length, 0);
  const indexBytes = files["model.safetensors.index.json"].length;
  expect(events[0]).toEqual({ type: "download-start", commit: hub.commit, files: wanted.length, totalBytes, doneBytes: indexBytes });
  expect(events.at(-1)).toEqual({ type: "download-end", dir, commit: hub.commit });
  expect(await readFile(join(cacheDir, "models--org--tiny", "refs", "main"), "utf8")).toBe(hub.commit);
  expect(await readlink(join(dir, shard))).toBe(`../../blobs/${createHash("sha256").update(first).digest("hex")}`);
  const gitHash = createHash("sha1").update("blob 21\0").update(files["config.json"]).digest("hex");
  expect(await readlink(join(dir, "config.json"))).toBe(`../../blobs/${gitHash}`);
});

test("asks for no file again that is there, and for nothing at all when the cache is asked", async () => {
  await download();
  const { length } = hub.requests;
  const [start] = await download();
  expect(start).toMatchObject({ type: "download-start", doneBytes: (start as { totalBytes: number }).totalBytes });
  expect(hub.requests).toHaveLength(length);
  const dir = await expectWhole();
  await hub[Symbol.asyncDispose]();
  expect(await cachedModel(model, { cacheDir })).toBe(dir);
  expect(await cachedModel(model, { cacheDir, revision: hub.commit })).toBe(dir);
  expect(await cachedModel(model, { cacheDir, revision: "v1" })).toBeNull();
  await rm(join(dir, shard));
  expect(await cachedModel(model, { cacheDir })).toBeNull();
});

test("goes on where connections broke off", async () => {
  hub.faults.set(shard, [{ dropAfter: 100_000 }, { dropAfter: 0 }, { status: 503 }, { dropAfter: 50_000 }]);
  await download();
  await expectWhole();
  const ranges = hub.requests.filter(({ path }) => path === shard).map(({ range }) => Number(/\d+/.exec(range)?.[0] ?? 0));
  expect(ranges).toHaveLength(5);
  expect(ranges[0]).toBe(0);
  expect(ranges[1]).toBeGreaterThan(0);
  expect(ranges[4]).toBeGreaterThan(ranges[3] as number);
});

test("goes on with what an earlier process left", async () => {
  await mkdir(dirname(blobOf(first)), { recursive: true });
  await writeFile(`${blobOf(first)}.incomplete`, first.subarray(0, 123_456));
  await download();
  await expectWhole();
  expect(hub.requests.filter(({ path }) => path === shard).map(({ range }) => range)).toEqual(["bytes=123456-"]);
});

test("begins again with a server that knows no ranges, and with more bytes than the file has", async () => {
  await mkdir(dirname(blobOf(first)), { recursive: true });
  await writeFile(`${blobOf(first)}.incomplete`, first.subarray(0, 1000));
  await writeFile(`${blobOf(second)}.incomplete`, bytes(200_002, 2));
  hub.faults.set(shard, [{ ignoresRange: true }]);
  await download();
  await expectWhole();
});

test("loses nothing when it is stopped", async () => {
  hub.faults.set(shard, [{ hangAfter: 200_000 }]);
  const controller = new AbortController();
  const reason = new Error("interrupted");
  const running = (async () => {
    for await (const event of downloadModel(model, { cacheDir, endpoint: hub.endpoint, signal: controller.signal })) {
      const there = await stat(`${blobOf(first)}.incomplete`).catch(() => null);
      if (event.type === "download-progress" && (there?.size ?? 0) > 0) controller.abort(reason);
    }
  })();
  await expect(running).rejects.toBe(reason);
  const kept = (await stat(`${blobOf(first)}.incomplete`)).size;
  expect(kept).toBeGreaterThan(0);
  expect(await cachedModel(model, { cacheDir })).toBeNull();
  hub.requests.length = 0;
  await download();
  await expectWhole();
  expect(hub.requests.filter(({ path }) => path === shard).map(({ range }) => range)).toEqual([`bytes=${kept}-`]);
});

test("a model without its tokenizer is not in the cache yet, whatever else came", async () => {
  hub.faults.set("tokenizer.json", [{ hangAfter: 10 }]);
  const controller = new AbortController();
  const weights = [shard, "model-00002-of-00002.safetensors"].map((name) =>
    join(cacheDir, "models--org--tiny", "snapshots", hub.commit, name),
  );
  const running = (async () => {
    for await (const event of downloadModel(model, { cacheDir, endpoint: hub.endpoint, signal: controller.signal })) {
      const there = await Promise.all(weights.map((path) => stat(path).catch(() => null)));
      if (event.type === "download-progress" && there.every((each) => each !== null)) controller.abort(new Error("interrupted"));
    }
  })();
  await expect(running).rejects.toThrow("interrupted");
  expect(await cachedModel(model, { cacheDir, revision: hub.commit })).toBeNull();
  await download();
  expect(await cachedModel(model, { cacheDir, revision: hub.commit })).toBe(await expectWhole());
});

test("stops when its loop is left", async () => {
  hub.faults.set(shard, [{ hangAfter: 10 }]);
  for await (const event of downloadModel(model, { cacheDir, endpoint: hub.endpoint })) if (event.type === "download-progress") break;
  await download();
  await expectWhole();
});

test.each([
  { what: "a large file", name: shard },
  { what: "a small file", name: "chat_template.jinja" },
])("removes $what with wrong bytes, and names it", async ({ name }) => {
  hub.faults.set(name, [{ wrongBytes: true }]);
  await expect(download()).rejects.toMatchObject({ code: "CHECKSUM_MISMATCH", message: expect.stringContaining(name) });
  await expect(cachedModel(model, { cacheDir })).resolves.toBeNull();
  await download();
  await expectWhole();
});

test("finds out that what an earlier process left is damaged", async () => {
  await mkdir(dirname(blobOf(first)), { recursive: true });
  await writeFile(`${blobOf(first)}.incomplete`, bytes(5000, 9));
  await expect(download()).rejects.toMatchObject({ code: "CHECKSUM_MISMATCH" });
  await download();
  await expectWhole();
});

test("gives up a connection that always breaks off, and keeps what came", async () => {
  hub.faults.set(shard, [{ dropAfter: 5000 }, ...Array.from({ length: 20 }, () => ({ dropAfter: 0 }))]);
  await expect(download()).rejects.toMatchObject({ code: "HUB_UNREACHABLE", message: expect.stringContaining(shard) });
  expect((await stat(`${blobOf(first)}.incomplete`)).size).toBe(5000);
});

test("says what a refusal means", async () => {
  await expect(download({}, "org/unknown")).rejects.toMatchObject({
    code: "MODEL_NOT_FOUND",
    message: `${hub.endpoint} has no model org/unknown, or it is private: set HF_TOKEN`,
  });
  await expect(download({ revision: "v9" })).rejects.toMatchObject({
    code: "MODEL_NOT_FOUND",
    message: expect.stringContaining("no revision v9"),
  });
  hub.gatedFor = "mine";
  await expect(download()).rejects.toMatchObject({
    code: "MODEL_GATED",
    message: expect.stringContaining(`accept its terms at ${hub.endpoint}/org/tiny`),
  });
  await expect(download({ token: "other" })).rejects.toMatchObject({ code: "MODEL_GATED" });
  await download({ token: "mine" });
  await expectWhole();
});

test("shows its token to the hub, and to nobody that the hub sends it to", async () => {
  hub.privateFor = "mine";
  await expect(download()).rejects.toMatchObject({ code: "MODEL_NOT_FOUND" });
  await download({ token: "mine" });
  expect(hub.requests.filter(({ cdn }) => cdn).map(({ authorization }) => authorization)).toEqual(["", "", ""]);
  expect(new Set(hub.requests.filter(({ cdn }) => !cdn).map(({ authorization }) => authorization))).toEqual(new Set(["Bearer mine"]));
});

test("says that a hub cannot be reached", async () => {
  await hub[Symbol.asyncDispose]();
  await expect(download()).rejects.toMatchObject({
    code: "HUB_UNREACHABLE",
    message: expect.stringMatching(/cannot be reached \(.*ECONNREFUSED/),
  });
});

test("asks for a large file only when the disk has room", async () => {
  hub.listedBytes.set(shard, 1e17);
  await expect(download()).rejects.toMatchObject({
    code: "DISK_FULL",
    message: expect.stringMatching(/^org\/tiny needs 100 PB more/),
  });
  expect(hub.requests.map(({ path }) => path)).toEqual(["model.safetensors.index.json"]);
});

test("follows a tag, and asks for no branch whose name it did not get", async () => {
  await download({ revision: "v1" });
  expect(await readdir(join(cacheDir, "models--org--tiny", "refs"))).toEqual(["v1"]);
  expect(await cachedModel(model, { cacheDir, revision: "v1" })).toBe(await expectWhole());
});

test("leaves a model alone that another process downloads, and takes over from one that died", async () => {
  const lock = join(cacheDir, ".locks", "models--org--tiny", "zaya.lock");
  await mkdir(dirname(lock), { recursive: true });
  const elsewhere = JSON.stringify({ pid: 7, host: `not-${hostname()}`, started: null });
  await writeFile(lock, elsewhere);
  await expect(download()).rejects.toMatchObject({ code: "DOWNLOAD_LOCKED", message: expect.stringContaining("process 7 on not-") });
  await writeFile(lock, JSON.stringify({ pid: 999999999, host: hostname(), started: null }));
  await download();
  await expectWhole();
  await writeFile(lock, elsewhere);
  await download(); // nothing to download, nothing to lock
  await rm(lock);
});

test.runIf(process.platform === "linux")("says that there is no place for its folder", async () => {
  await expect(download({ cacheDir: "/proc/zaya/hub" })).rejects.toMatchObject({ code: "ENOENT" });
});

test("refuses a repository that holds no checkpoint", async () => {
  await using empty = await openLoopbackHub(model, { "README.md": Buffer.from("hello") });
  await expect(download({ endpoint: empty.endpoint })).rejects.toMatchObject({
    code: "MODEL_NOT_FOUND",
    message: expect.stringContaining("no config.json"),
  });
});
