import { existsSync } from "node:fs";
import { readdir, readFile, rename, stat, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { loadCheckpoint } from "../checkpoint.js";
import { initialise } from "../initialise.js";
import { parameters } from "../parameters.js";
import { presets } from "../presets.js";
import { saveCheckpoint } from "../save.js";
import { temporaryFolder, writeOriginalCheckpoint } from "../testing.js";
import { trainTokenizer } from "../tokenizer/train.js";
import { type QuantiseEvent, type QuantiseOptions, quantiseCheckpoint } from "./quantise.js";

const text = "the quick brown fox jumps over the lazy dog and runs away from it\n".repeat(40);
const config = { ...presets["zaya-tiny"], vocabSize: 280 };
let tokenizerFiles: Record<string, string | Uint8Array>;
beforeAll(async () => {
  tokenizerFiles = await trainTokenizer([text], { vocabSize: 280 });
});

async function source(dir: string, dtype: "float32" | "bfloat16" = "bfloat16"): Promise<string> {
  const from = join(dir, "source");
  await saveCheckpoint(from, { config, tensors: initialise(config, 5), tokenizerFiles, dtype });
  return from;
}

async function quantise(options: QuantiseOptions): Promise<QuantiseEvent[]> {
  const events: QuantiseEvent[] = [];
  for await (const event of quantiseCheckpoint(options)) events.push(event);
  return events;
}

it.each([
  [{ to: "q5" }, "to: expected bf16, q8, q4, received q5"],
  [{ to: "q4", head: 5 }, "head: expected 4, 6, 8 bits, received 5"],
])("refuses %o", async (wrong, message) => {
  const options = { from: "a", out: "b", ...wrong } as QuantiseOptions;
  await expect(quantise(options)).rejects.toMatchObject({ code: "INVALID_ARGUMENT", message });
});

/** √(Σ (a − b)² / Σ a²). */
function relativeError(a: Float32Array, b: Float32Array): number {
  let error = 0;
  let square = 0;
  for (const [i, x] of a.entries()) {
    error += (x - (b[i] as number)) ** 2;
    square += x * x;
  }
  return error === 0 ? 0 : Math.sqrt(error / square);
}

async function weightErrors(from: string, out: string): Promise<ReadonlyMap<string, number>> {
  await using a = await loadCheckpoint(from);
  await using b = await loadCheckpoint(out);
  const errors = new Map<string, number>();
  for (const { name, kind } of parameters(config))
    errors.set(kind, Math.max(errors.get(kind) ?? 0, relativeError(await a.readFloat32(name), await b.readFloat32(name))));
  return errors;
}

describe("quantiseCheckpoint", () => {
  it.each([
    { to: "bf16", expert: 0, matrix: 0, embedding: 0 },
    { to: "q8", expert: 0.01, matrix: 0.01, embedding: 0.01 },
    { to: "q4", expert: 0.1, matrix: 0.01, embedding: 0.01 },
    { to: "q4", attention: 6, head: 4, expert: 0.1, matrix: 0.025, embedding: 0.1 },
  ] as const)(
    "keeps weights within the error of their width, and small ones exactly: %o",
    async ({ expert, matrix, embedding, ...widths }) => {
      await using dir = await temporaryFolder();
      const [from, out] = [await source(dir.path), join(dir.path, "out")];
      const events = await quantise({ from, out, ...widths });
      expect(events.at(-1)).toMatchObject({ type: "quantise-end", keptBytes: 0 });
      const errors = await weightErrors(from, out);
      for (const kind of ["router", "convolution", "vector", "balancing"]) expect(errors.get(kind), kind).toBe(0);
      for (const [kind, most] of Object.entries({ expert, matrix, embedding })) {
        expect(errors.get(kind), kind).toBeLessThanOrEqual(most);
        if (most > 0) expect(errors.get(kind), kind).toBeGreaterThan(most / 10);
      }
      expect((await readdir(out)).sort()).toEqual(["config.json", "model.safetensors", ...Object.keys(tokenizerFiles)].sort());
    },
  );

  it("keeps the router in float32 where bfloat16 cannot hold it", async () => {
    await using dir = await temporaryFolder();
    const [from, out] = [await source(dir.path, "float32"), join(dir.path, "out")];
    await quantise({ from, out, to: "q8" });
    expect((await weightErrors(from, out)).get("router")).toBe(0);
  });

  it("gives the same file from the original layout and from the run layout", async () => {
    await using dir = await temporaryFolder();
    const original = join(dir.path, "original");
    await writeOriginalCheckpoint(original, config, 5);
    const direct = join(dir.path, "direct");
    await quantise({ from: original, out: direct, to: "q4" });
    const half = join(dir.path, "half");
    await quantise({ from: await source(dir.path), out: half, to: "bf16" });
    const [a, b] = [join(dir.path, "a"), join(dir.path, "b")];
    await quantise({ from: half, out: a, to: "q4" });
    await quantise({ from: join(dir.path, "source"), out: b, to: "q4" });
    expect(await readFile(join(a, "model.safetensors"))).toEqual(await readFile(join(b, "model.safetensors")));
    const [, written] = await quantise({ from: join(dir.path, "source"), out: join(dir.path, "c"), to: "bf16", dryRun: true });
    const [again] = await quantise({ from: half, out: join(dir.path, "c"), to: "q8", dryRun: true });
    expect(again?.type === "quantise-start" && again.bytesBefore).toBe(written?.type === "quantise-end" && written.bytes);
    expect((await weightErrors(original, direct)).get("expert")).toBeLessThan(0.1);
  });

  it("weights errors by what calibration finds", async () => {
    await using dir = await temporaryFolder();
    const [from, calibrate] = [await source(dir.path), join(dir.path, "text")];
    await writeFile(calibrate, text);
    const plain = await quantise({ from, out: join(dir.path, "plain"), to: "q4" });
    const read: [number, number][] = [];
    const onProgress = (...bytes: [number, number]) => read.push(bytes);
    const events = await quantise({ from, out: join(dir.path, "weighted"), to: "q4", calibrate, onProgress });
    expect(read.length).toBeGreaterThan(1);
    expect(read.at(-1)?.[0]).toBe(read.at(-1)?.[1]);
    expect(plain.some(({ type }) => type === "calibrate-window")).toBe(false);
    expect(events.filter(({ type }) => type === "calibrate-window").length).toBeGreaterThan(0);
    const [a, b] = await Promise.all(["plain", "weighted"].map((name) => weightErrors(from, join(dir.path, name))));
    expect(b?.get("expert")).toBeGreaterThan(a?.get("expert") as number); // less error where it counts is more error on average
    expect(b?.get("expert")).toBeLessThan(0.15);
    expect(b?.get("router")).toBe(0);
  });

  it("says in a dry run what it would write, and writes nothing", async () => {
    await using dir = await temporaryFolder();
    const [from, out] = [await source(dir.path), join(dir.path, "out")];
    const [start, end] = await quantise({ from, out, to: "q4", dryRun: true });
    expect(start).toMatchObject({ type: "quantise-start", resumes: false });
    expect(end).toMatchObject({ type: "quantise-end", dryRun: true });
    expect(existsSync(out)).toBe(false);
    await quantise({ from, out, to: "q4" });
    await expect(quantise({ from, out, to: "q4", dryRun: true })).rejects.toMatchObject({ code: "CHECKPOINT_EXISTS" });
    const { size } = await stat(join(out, "model.safetensors"));
    expect(start?.type === "quantise-start" && size - start.bytesAfter).toBeGreaterThan(0);
    expect(start?.type === "quantise-start" && size - start.bytesAfter).toBeLessThan(20_000); // the header
  });

  it("refuses to overwrite a checkpoint, and to work in place", async () => {
    await using dir = await temporaryFolder();
    const [from, out] = [await source(dir.path), join(dir.path, "out")];
    await quantise({ from, out, to: "q8" });
    const before = await readFile(join(out, "model.safetensors"));
    await expect(quantise({ from, out, to: "q4" })).rejects.toMatchObject({ code: "CHECKPOINT_EXISTS" });
    await expect(quantise({ from, out: from, to: "q4" })).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    expect(await readFile(join(out, "model.safetensors"))).toEqual(before);
  });

  it("refuses what is quantised already, and says by which types", async () => {
    await using dir = await temporaryFolder();
    const [from, q4, out] = [await source(dir.path), join(dir.path, "q4"), join(dir.path, "out")];
    await quantise({ from, out: q4, to: "q4" });
    for (const to of ["bf16", "q8", "q4"] as const)
      await expect(quantise({ from: q4, out, to, dryRun: to === "q8" })).rejects.toMatchObject({
        code: "INVALID_ARGUMENT",
        message: `${q4} holds int8 and int4 weights already; quantise the bfloat16 checkpoint it was made from`,
      });
    expect(existsSync(out)).toBe(false);
  });

  it("lets no other write into its folder", async () => {
    await using dir = await temporaryFolder();
    const [from, out] = [await source(dir.path), join(dir.path, "out")];
    for await (const { type } of quantiseCheckpoint({ from, out, to: "q4" })) {
      if (type !== "quantise-start") continue;
      await expect(quantise({ from, out, to: "q8" })).rejects.toMatchObject({ code: "CHECKPOINT_LOCKED" });
    }
    await using checkpoint = await loadCheckpoint(out);
    expect(checkpoint.placeOf("model.layers.0.mlp.experts.down_proj")?.type.dtype).toBe("int4");
  });

  it("names what is wrong with the source", async () => {
    await using dir = await temporaryFolder();
    const [from, out] = [await source(dir.path), join(dir.path, "out")];
    await expect(quantise({ from: join(dir.path, "nowhere"), out, to: "q4" })).rejects.toMatchObject({ code: "CONFIG_INVALID" });
    await expect(quantise({ from, out, to: "q4", calibrate: join(dir.path, "nothing") })).rejects.toThrow("nothing: no such file");
    await expect(quantise({ from, out, to: "q8", calibrate: join(dir.path, "nothing") })).rejects.toThrow(/^calibrate: only q4 /);
    const narrow = { ...config, vocabSize: config.vocabSize - 1 };
    const other = join(dir.path, "other");
    await saveCheckpoint(other, { config: narrow, tensors: initialise(narrow, 5), tokenizerFiles });
    await writeFile(join(dir.path, "text"), text);
    await expect(quantise({ from: other, out, to: "q4", calibrate: join(dir.path, "text") })).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
      message: expect.stringMatching(`^the tokenizer has ids up to ${config.vocabSize - 1}, the model ${config.vocabSize - 1} rows; `),
    });
    expect(existsSync(out)).toBe(false);
    await truncate(join(from, "model.safetensors"), 100_000);
    await expect(quantise({ from, out, to: "q4" })).rejects.toMatchObject({ code: "CHECKPOINT_INVALID" });
    expect(existsSync(join(out, "config.json"))).toBe(false);
  });
});

describe("an interrupted run", () => {
  it("is continued after it was aborted, to the same bytes", async () => {
    await using dir = await temporaryFolder();
    const [from, out, whole] = [await source(dir.path), join(dir.path, "out"), join(dir.path, "whole")];
    await quantise({ from, out: whole, to: "q4" });
    const controller = new AbortController();
    let tensors = 0;
    const aborted = (async () => {
      for await (const { type } of quantiseCheckpoint({ from, out, to: "q4", signal: controller.signal }))
        if (type === "tensor-end" && ++tensors === 20) controller.abort(new Error("enough"));
    })();
    await expect(aborted).rejects.toThrow("enough");
    expect(existsSync(join(out, "config.json"))).toBe(false);
    await expect(loadCheckpoint(out)).rejects.toMatchObject({ code: "CONFIG_INVALID" });

    const events = await quantise({ from, out, to: "q4" });
    expect(events[0]).toMatchObject({ resumes: true });
    const end = events.at(-1);
    expect(end?.type === "quantise-end" && end.keptBytes).toBeGreaterThan(50_000);
    expect(await readFile(join(out, "model.safetensors"))).toEqual(await readFile(join(whole, "model.safetensors")));
    expect((await readdir(out)).sort()).toEqual((await readdir(whole)).sort());
  });

  it("makes parts again whose bytes are not what was written, and keeps what another job left", async () => {
    await using dir = await temporaryFolder();
    const [from, out, whole] = [await source(dir.path), join(dir.path, "out"), join(dir.path, "whole")];
    await quantise({ from, out: whole, to: "q4" });
    for await (const { type } of quantiseCheckpoint({ from, out, to: "q4" })) if (type === "tensor-end") break;
    const partial = join(out, "model.safetensors.partial");
    const bytes = await readFile(partial);
    bytes.fill(0, bytes.length - 1000);
    await writeFile(partial, bytes);
    await quantise({ from, out, to: "q4" });
    expect(await readFile(join(out, "model.safetensors"))).toEqual(await readFile(join(whole, "model.safetensors")));

    const short = join(dir.path, "short");
    for await (const { type } of quantiseCheckpoint({ from, out: short, to: "q4" })) if (type === "tensor-end") break;
    await truncate(join(short, "model.safetensors.partial"), bytes.length - 1000);
    await quantise({ from, out: short, to: "q4" });
    expect(await readFile(join(short, "model.safetensors"))).toEqual(await readFile(join(whole, "model.safetensors")));

    const other = join(dir.path, "other");
    for await (const { type } of quantiseCheckpoint({ from, out: other, to: "q8" })) if (type === "tensor-end") break;
    const left = await readFile(join(other, "quantise.journal"), "utf8");
    for (const dryRun of [true, false])
      await expect(quantise({ from, out: other, to: "q4", dryRun })).rejects.toMatchObject({ code: "CHECKPOINT_EXISTS" });
    expect(await readFile(join(other, "quantise.journal"), "utf8")).toBe(left);
    const events = await quantise({ from, out: other, to: "q8" });
    expect(events[0]).toMatchObject({ resumes: true });
  });

  it("is finished when only its journal is left, but not by another job", async () => {
    await using dir = await temporaryFolder();
    const [from, out] = [await source(dir.path), join(dir.path, "out")];
    const journal = join(out, "quantise.journal");
    let text = "";
    for await (const { type } of quantiseCheckpoint({ from, out, to: "q8" }))
      if (type === "tensor-end") text = await readFile(journal, "utf8");
    await writeFile(journal, text);
    const before = await readFile(join(out, "model.safetensors"));
    await expect(quantise({ from, out, to: "q4" })).rejects.toMatchObject({ code: "CHECKPOINT_EXISTS" });
    const end = (await quantise({ from, out, to: "q8" })).at(-1);
    expect(end?.type === "quantise-end" && end.keptBytes === end.bytes).toBe(true);
    expect(existsSync(journal)).toBe(false);
    expect(await readFile(join(out, "model.safetensors"))).toEqual(before);
  });

  it("is finished when only config.json is missing", async () => {
    await using dir = await temporaryFolder();
    const [from, out, whole] = [await source(dir.path), join(dir.path, "out"), join(dir.path, "whole")];
    await quantise({ from, out: whole, to: "q8" });
    for await (const { type, ...event } of quantiseCheckpoint({ from, out, to: "q8" }))
      if (type === "tensor-end" && "doneBytes" in event && event.doneBytes === event.totalBytes) break;
    await rename(join(out, "model.safetensors.partial"), join(out, "model.safetensors"));
    const events = await quantise({ from, out, to: "q8" });
    const end = events.at(-1);
    expect(end?.type === "quantise-end" && end.keptBytes === end.bytes).toBe(true);
    expect(await readFile(join(out, "model.safetensors"))).toEqual(await readFile(join(whole, "model.safetensors")));
  });
});
