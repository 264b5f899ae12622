import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { openSafetensors } from "./safetensors.js";
import { createSafetensors } from "./safetensors_writer.js";
import { safetensorsBytes, temporaryFolder } from "./testing.js";

const f32 = (shape: number[], begin: number, end: number) => ({ dtype: "F32", shape, data_offsets: [begin, end] });

describe("openSafetensors", () => {
  it("reads names, shapes, metadata and elements, also of empty tensors and scalars", async () => {
    await using dir = await temporaryFolder();
    const path = join(dir.path, "x.safetensors");
    const bytes = safetensorsBytes({ __metadata__: { format: "pt" }, b: f32([2], 4, 12), a: f32([], 0, 4), none: f32([0, 3], 12, 12) }, 12);
    new Uint8Array(bytes.buffer, bytes.length - 12).set(new Uint8Array(Float32Array.of(1, 2, 3).buffer));
    await writeFile(path, bytes);
    const file = await openSafetensors(path);
    try {
      expect(file.metadata).toEqual({ format: "pt" });
      expect([...file.tensors.keys()].sort()).toEqual(["a", "b", "none"]);
      expect(new Float32Array((await file.read("b")).buffer)).toEqual(Float32Array.of(2, 3));
      expect(new Float32Array((await file.read("a")).buffer)).toEqual(Float32Array.of(1));
      expect((await file.read("none")).length).toBe(0);
      await expect(file.read("c")).rejects.toMatchObject({ code: "INVALID_ARGUMENT", message: `${file.path} has no tensor c` });
    } finally {
      await file.close();
    }
  });

  const good = { a: f32([2], 0, 8), b: f32([1], 8, 12) };
  const long = safetensorsBytes(good, 12);
  new DataView(long.buffer).setBigUint64(0, 2n ** 60n, true);
  const beyond = safetensorsBytes(good, 12);
  new DataView(beyond.buffer).setBigUint64(0, 5000n, true);
  it.each<[string, Uint8Array, string]>([
    ["a file of 7 bytes", new Uint8Array(7), "not a safetensors file: 7 bytes are too few"],
    ["an absurd header length", long, "not a safetensors file: a header of 1152921504606846976 bytes is above the limit of 100000000"],
    ["a header longer than the file", beyond, `truncated: the header needs 5008 bytes, the file has ${beyond.length}`],
    ["a header that is not JSON", safetensorsBytes("{oops", 0), "the header is not JSON"],
    ["a header that is no object", safetensorsBytes("[]", 0), "the header is not a JSON object"],
    ["a file cut short", safetensorsBytes(good, 11), `truncated: b ends at byte ${long.length}, the file has ${long.length - 1}`],
    ["bytes after the last tensor", safetensorsBytes(good, 20), "the last 8 bytes belong to no tensor"],
    ["overlapping tensors", safetensorsBytes({ a: f32([2], 0, 8), b: f32([1], 4, 8) }, 8), "b overlaps a"],
    ["a hole", safetensorsBytes({ a: f32([2], 0, 8), b: f32([1], 12, 16) }, 16), "4 bytes between a and b belong to no tensor"],
    [
      "offsets of the wrong length",
      safetensorsBytes({ a: f32([2], 0, 12) }, 12),
      "a of type F32 and shape [2] needs 8 bytes, data_offsets give it 12",
    ],
    [
      "offsets that run backwards",
      safetensorsBytes({ a: f32([2], 8, 0) }, 8),
      "a of type F32 and shape [2] needs 8 bytes, data_offsets give it -8",
    ],
    ["negative offsets", safetensorsBytes({ a: f32([2], -8, 0) }, 8), "a has invalid data_offsets [-8,0]"],
    ["a negative size", safetensorsBytes({ a: f32([-2], 0, 8) }, 8), "a has an invalid shape [-2]"],
    [
      "a shape that overflows",
      safetensorsBytes({ a: f32([2 ** 31, 2 ** 31], 0, 8) }, 8),
      "a of type F32 and shape [2147483648, 2147483648] needs 18446744073709552000 bytes, data_offsets give it 8",
    ],
    ["an unknown type", safetensorsBytes({ a: { ...f32([2], 0, 8), dtype: "F31" } }, 8), 'a has the unknown type "F31"'],
    [
      "a shape without an end",
      safetensorsBytes(`{"a":{"dtype":"F32","shape":[1,${"[".repeat(200_000)}${"]".repeat(200_000)}],"data_offsets":[0,4]}}`, 4),
      "a has an invalid shape [1,…]",
    ],
    [
      "a name twice",
      safetensorsBytes('{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}', 8),
      "a is there twice",
    ],
    [
      "a name twice, once escaped",
      safetensorsBytes(
        '{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"\\u0061":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}',
        8,
      ),
      "a is there twice",
    ],
    ["metadata of numbers", safetensorsBytes({ __metadata__: { step: 3 } }, 0), "__metadata__.step is not a string"],
  ])("refuses %s in one clear line", async (_, bytes, problem) => {
    await using dir = await temporaryFolder();
    const path = join(dir.path, "x.safetensors");
    await writeFile(path, bytes);
    await expect(openSafetensors(path)).rejects.toMatchObject({
      code: "CHECKPOINT_INVALID",
      message: `${path}: ${problem}`,
    });
  });

  it("names a file that is not there", async () => {
    await expect(openSafetensors("/nowhere/x.safetensors")).rejects.toMatchObject({
      code: "CHECKPOINT_INVALID",
      message: "/nowhere/x.safetensors: no such file",
    });
  });
});

describe("createSafetensors", () => {
  const entries = [
    { name: "a", dtype: "F32", shape: [2] },
    { name: "b", dtype: "BF16", shape: [3, 1] },
    { name: "c", dtype: "F32", shape: [] },
  ] as const;
  const data = { a: Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8), b: Uint8Array.of(9, 10, 11, 12, 13, 14), c: Uint8Array.of(15, 16, 17, 18) };

  it("writes tensors in any order to their places, elements from a multiple of 8 bytes on", async () => {
    await using dir = await temporaryFolder();
    const writer = await createSafetensors(dir.path, entries);
    for (const name of ["c", "a", "b"] as const) await writer.write(name, data[name]);
    await writer.finish();
    const file = await openSafetensors(join(dir.path, "model.safetensors"));
    for (const { name } of entries) expect(await file.read(name)).toEqual(data[name]);
    expect((file.tensors.get("a")?.offset ?? 1) % 8).toBe(0);
    await file.close();
  });

  it("cuts files above the given size and writes an index", async () => {
    await using dir = await temporaryFolder();
    const writer = await createSafetensors(dir.path, entries, { shardBytes: 15 });
    expect(writer.files.map(({ name, tensors }) => [name, tensors.map((tensor) => tensor.name)])).toEqual([
      ["model-00001-of-00002.safetensors", ["a", "b"]],
      ["model-00002-of-00002.safetensors", ["c"]],
    ]);
    for (const { name } of entries) await writer.write(name, data[name]);
    await writer.finish();
    expect(JSON.parse(await readFile(join(dir.path, "model.safetensors.index.json"), "utf8"))).toEqual({
      metadata: { total_size: 18 },
      weight_map: { a: "model-00001-of-00002.safetensors", b: "model-00001-of-00002.safetensors", c: "model-00002-of-00002.safetensors" },
    });
  });

  it("refuses at once what the disk has no room for", async () => {
    await using dir = await temporaryFolder();
    await expect(createSafetensors(dir.path, [{ name: "huge", dtype: "U8", shape: [1e15] }])).rejects.toMatchObject({
      code: "DISK_FULL",
      message: expect.stringMatching(
        /^the checkpoint needs 1\.00 PB more, and the disk of \S+ has [\d.]+ [MGT]B left; free some, or choose/,
      ),
    });
    expect(await readdir(dir.path)).toEqual([]);
  });

  it("refuses an unknown name, a name twice, a wrong size and a missing tensor", async () => {
    await using dir = await temporaryFolder();
    const writer = await createSafetensors(dir.path, entries);
    await writer.write("a", data.a);
    await expect(writer.write("d", data.a)).rejects.toThrow("d is no tensor of this checkpoint");
    await expect(writer.write("a", data.a)).rejects.toThrow("a is written twice");
    await expect(writer.write("b", data.a)).rejects.toThrow("b takes 6 bytes, received 8");
    await expect(writer.finish()).rejects.toThrow("b was not written (2 of 3 tensors are missing)");
    await writer.abort();
  });
});
