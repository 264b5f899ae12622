import { mkdtemp, open, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { openDevice } from "./device.js";
import { createGraph } from "./graph.js";
import { loadAddon } from "./native.js";
import * as ops from "./ops/index.js";
import { size, tensor } from "./types.js";

const values = Float32Array.from({ length: 40_000 }, (_, i) => Math.sin(i));
let folder: string;
let path: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "zaya-store-"));
  path = join(folder, "elements");
  await writeFile(path, new Uint8Array(values.buffer));
});
afterAll(() => rm(folder, { recursive: true }));

test("a graph that ran before is refused once a tensor it reads is gone", async () => {
  await using device = await openDevice("cpu");
  await using store = device.createStore();
  const type = tensor("float32", [3]);
  await store.write("a", type, Float32Array.of(1, 2, 3));
  const graph = createGraph();
  graph.output("sum", ops.add(graph.read("a", type), graph.read("a", type)));
  await using executable = device.compile(graph, store);
  await executable.run();
  store.writePart("a", 0, Float32Array.of(4));
  expect((await executable.run()).sum).toEqual(Float32Array.of(8, 4, 6));
  store.remove("a");
  await expect(executable.run()).rejects.toThrow("gone or too small");
  expect(() => executable.read("sum", 0, 1)).toThrow("the outputs are gone");
});

test("refuses to read, write and map outside of tensors and files", async () => {
  await using device = await openDevice("cpu");
  await using store = device.createStore();
  const type = tensor("float32", [4]);
  await store.write("a", type, Float32Array.of(1, 2, 3, 4));
  const refused = expect.objectContaining({ code: "INVALID_ARGUMENT" });
  for (const [begin, end] of [
    [-1, 3],
    [0, 5],
    [2, 1],
    [0.5, 2],
    [-(2 ** 60), -(2 ** 60) + 1],
  ] as const)
    expect(() => store.read("a", begin, end), `${begin} to ${end}`).toThrow(refused);
  for (const begin of [-1, 3, 0.5]) expect(() => store.writePart("a", begin, Float32Array.of(9, 9)), `from ${begin}`).toThrow(refused);
  for (const offset of [-4, 0.5]) expect(() => store.map("b", type, path, offset), `from byte ${offset}`).toThrow(refused);
  expect(store.read("a")).toEqual(Float32Array.of(1, 2, 3, 4));
  expect(store.read("a", 4, 4)).toEqual(Float32Array.of());
  expect(store.has("b")).toBe(false);

  const native = new (loadAddon().Device)(1, "");
  const slot = native.add(16);
  for (const offset of [-4, 13, -(2 ** 53)]) {
    expect(() => native.read(slot, offset, new Float32Array(1)), `at ${offset}`).toThrow("outside of a tensor");
    expect(() => native.write(slot, offset, new Float32Array(1)), `at ${offset}`).toThrow("outside of a tensor");
  }
  expect(() => native.map(path, -4, 8)).toThrow("no file has 8 bytes from byte");
  native.close();
});

describe("a mapped tensor", () => {
  test("has the elements of its part of the file, and takes no memory", async () => {
    await using device = await openDevice("cpu");
    await using store = device.createStore();
    store.map("first", tensor("float32", [100]), path, 0);
    store.map("rows", tensor("float32", [300, 100]), path, 4 * 64);
    await store.prefetch("rows");
    expect(store.read("first")).toEqual(values.slice(0, 100));
    expect(store.read("rows")).toEqual(values.slice(64, 30_064));
    expect(store.bytes()).toBe(0);

    const graph = createGraph();
    const rows = graph.read("rows", tensor("float32", [300, 100]));
    graph.output("sum", ops.add(rows, rows));
    await using executable = device.compile(graph, store);
    expect((await executable.run()).sum).toEqual(values.slice(64, 30_064).map((x) => 2 * x));
  });

  test("stays when others of the same file are removed", async () => {
    await using device = await openDevice("cpu");
    await using store = device.createStore();
    const type = tensor("float32", [16]);
    for (const name of ["a", "b", "c"]) store.map(name, type, path, 0);
    store.remove("a");
    store.remove("c");
    expect(store.read("b")).toEqual(values.slice(0, 16));
    store.remove("b");
    store.map("b", type, path, 64);
    expect(store.read("b")).toEqual(values.slice(16, 32));
  });

  test("cannot be written", async () => {
    await using device = await openDevice("cpu");
    await using store = device.createStore();
    store.map("a", tensor("float32", [16]), path, 0);
    expect(() => store.writePart("a", 0, Float32Array.of(1))).toThrow("mapped file");
  });

  test("has the same elements in huge pages, also where they are not on the disk yet", async () => {
    await using device = await openDevice("cpu");
    await using store = device.createStore();
    const large = join(folder, "large");
    const elements = Float32Array.from({ length: (9 << 20) / 4 }, (_, i) => i);
    const file = await open(large, "w");
    // Written in pieces that are smaller than a huge page, as a copy or a download is.
    for (let i = 0; i < elements.length; i += 1 << 14) await file.write(elements.subarray(i, i + (1 << 14)));
    await file.close();
    const parts = { a: [0, 100], b: [128, 1_000_000], c: [1_000_128, elements.length] } as const;
    for (const [name, [begin, end]] of Object.entries(parts)) store.map(name, tensor("float32", [end - begin]), large, 4 * begin);
    for (const hugePages of [false, true, true]) {
      for (const name of Object.keys(parts)) await store.prefetch(name, { hugePages });
      for (const [name, [begin, end]] of Object.entries(parts)) expect(store.read(name)).toEqual(elements.slice(begin, end));
    }
    // How many there are is the system's choice; they are a part of what is mapped, or not told.
    const bytes = Object.values(parts).reduce((sum, [begin, end]) => sum + 4 * (end - begin), 0);
    const huge = store.hugeBytes();
    if (huge !== null) expect(huge >= 0 && huge <= bytes).toBe(true);
  });

  test("is refused where the file is missing or too short", async () => {
    await using device = await openDevice("cpu");
    await using store = device.createStore();
    const type = tensor("float32", [16]);
    expect(() => store.map("a", type, join(folder, "nothing"), 0)).toThrow("No such file");
    const short = join(folder, "short");
    await writeFile(short, new Uint8Array(values.buffer));
    await truncate(short, 70);
    expect(() => store.map("a", type, short, 64)).toThrow("shorter than the 128 bytes");
  });
});

describe("readBytes", () => {
  test("gives panels as they lie in memory", async () => {
    await using device = await openDevice("cpu");
    await using store = device.createStore();
    await store.write("w", tensor("float32", [2, 3], "panels"), Float32Array.of(1, 2, 3, 4, 5, 6));
    const panels = new Float32Array(store.readBytes("w").buffer);
    expect(panels).toHaveLength(32 * 4);
    expect([...panels.subarray(0, 2), ...panels.subarray(32, 34), ...panels.subarray(64, 66)]).toEqual([1, 4, 2, 5, 3, 6]);
  });

  test("fills the start of a buffer, and refuses one that is too small", async () => {
    await using device = await openDevice("cpu");
    await using store = device.createStore();
    await store.write("x", tensor("int32", [2]), Int32Array.of(7, -1));
    const buffer = new Uint8Array(20);
    expect([...store.readBytes("x", buffer)]).toEqual([7, 0, 0, 0, 255, 255, 255, 255]);
    expect(buffer[7]).toBe(255);
    expect(() => store.readBytes("x", new Uint8Array(7))).toThrow("x has 8 bytes, the buffer to read into 7");
  });
});

test.each([[[-1]], [[1.5]], [[Number.NaN]], [[2 ** 53]]])("a tensor of shape %j is refused", async (shape) => {
  await using device = await openDevice("cpu");
  await using store = device.createStore();
  const refused = expect.objectContaining({ code: "INVALID_ARGUMENT" });
  expect(() => tensor("float32", shape)).toThrow(refused);
  expect(() => store.allocate("a", { dtype: "float32", shape, encoding: "plain" })).toThrow(refused);
  expect(store.has("a")).toBe(false);
});

test("what no memory can hold, and integers of less than a byte outside of panels, are refused", async () => {
  await using device = await openDevice("cpu");
  await using store = device.createStore();
  expect(() => store.allocate("a", tensor("float32", [2 ** 40, 2 ** 40]))).toThrow("larger than any memory");
  expect(() => store.allocate("a", tensor("float32", [2 ** 48]))).toThrow(expect.objectContaining({ code: "KERNEL_FAILED" }));
  for (const dtype of ["int4", "int6"] as const) expect(() => tensor(dtype, [4, 4])).toThrow(`${dtype} lies in panels only`);
});

test.each(["cpu", "null"] as const)("a store of the %s is of no use once it, or its device, is disposed", async (kind) => {
  const device = await openDevice(kind);
  const [first, second] = [device.createStore(), device.createStore()];
  for (const store of [first, second]) store.allocate("a", tensor("float32", [3]));
  await first[Symbol.asyncDispose]();
  await first[Symbol.asyncDispose]();
  const refused = expect.objectContaining({ code: "DISPOSED" });
  expect(() => first.allocate("b", tensor("float32", [3]))).toThrow(refused);
  expect(() => first.typeOf("a")).toThrow(refused);
  await expect(first.prefetch("a")).rejects.toThrow(refused);
  await device[Symbol.asyncDispose]();
  expect(() => second.allocate("b", tensor("float32", [3]))).toThrow(refused);
  expect(() => device.compile(createGraph())).toThrow(refused);
  await second[Symbol.asyncDispose]();
});

test.each(["cpu", "null"] as const)("a graph is not compiled for the %s with another device's store", async (kind) => {
  await using device = await openDevice("cpu");
  await using other = await openDevice(kind);
  const store = other.createStore();
  store.allocate("a", tensor("float32", [3]));
  const graph = createGraph();
  graph.output("sum", ops.sum(graph.read("a", tensor("float32", [3]))));
  expect(() => device.compile(graph, store)).toThrow("the store belongs to another device");
});

test("takes arrays over memory that threads share", async () => {
  await using device = await openDevice("cpu");
  await using store = device.createStore();
  const type = tensor("float32", [4]);
  const shared = new Float32Array(new SharedArrayBuffer(24), 4, 4);
  shared.set([1, 2, 3, 4]);
  await store.write("a", type, shared);
  const graph = createGraph();
  graph.output("sum", ops.add(graph.read("a", type), graph.input("x", type)));
  await using executable = device.compile(graph, store);
  expect((await executable.run({ inputs: { x: shared } })).sum).toEqual(Float32Array.of(2, 4, 6, 8));
});

test("arguments of another kind are refused, and the device goes on", async () => {
  await using device = await openDevice("cpu");
  await using store = device.createStore();
  const refused = expect.objectContaining({ code: "INVALID_ARGUMENT" });
  expect(() => store.map("a", tensor("float32", [4]), new URL(`file://${path}`) as unknown as string, 0)).toThrow(refused);
  expect(() => store.map("a", tensor("int8", [4, 256], "rows"), path, 0)).toThrow(refused);
  for (const milliseconds of [null, Number.NaN, -1] as number[])
    await expect(device.measure("read", milliseconds)).rejects.toThrow(refused);
  store.map("a", tensor("float32", [4]), path, 0);
  await store.prefetch("a", { hugePages: 1 as unknown as boolean });
  expect(await device.measure("float32", 1)).toBeGreaterThan(0);
});

test("a run at sizes for which a kernel wants more workspace than was planned is refused", async () => {
  await using device = await openDevice("cpu", { threads: 2 });
  const K = size("K", 8740);
  const graph = createGraph();
  const x = graph.input("x", tensor("float32", [2048, K]));
  graph.output("y", ops.linear(x, graph.input("w", tensor("float32", [8, K]))));
  await using executable = device.compile(graph);
  const run = (k: number) => executable.run({ inputs: { x: new Float32Array(2048 * k).fill(1), w: new Float32Array(8 * k).fill(1) } });
  for (const k of [8740, 4369, 1]) {
    const done = await run(k).then(
      ({ y }) => (y as Float32Array)[0],
      (error: Error) => error.message,
    );
    if (typeof done === "number") expect(done).toBe(k);
    else expect(done).toMatch(/^\[linear\] wants a workspace of \d+ bytes where \d+ were planned$/);
  }
});

test("a step that fails in what it may refuse has changed nothing", async () => {
  await using device = await openDevice("cpu");
  await using store = device.createStore();
  const [vector, state] = [tensor("float32", [2]), tensor("float32", [2, 1, 4])];
  await store.write("p", vector, Float32Array.of(1, 2));
  await store.write("state", state, new Float32Array(8).fill(3));
  const graph = createGraph();
  graph.assign("p", ops.add(graph.read("p", vector), graph.read("p", vector)));
  const tail = graph.input("tail", tensor("float32", [1, 1, 4]));
  const [lengths, slots] = [graph.input("lengths", tensor("int32", [2])), graph.input("slots", tensor("int32", [1]))];
  graph.assign("state", ops.carryState(graph.read("state", state), tail, lengths, slots));
  await using executable = device.compile(graph, store);
  const run = (slot: number) =>
    executable.run({ inputs: { tail: new Float32Array(4).fill(5), lengths: Int32Array.of(0, 1), slots: Int32Array.of(slot) } });
  await expect(run(99)).rejects.toMatchObject({ code: "KERNEL_FAILED" });
  expect([store.read("p"), store.read("state")]).toEqual([Float32Array.of(1, 2), new Float32Array(8).fill(3)]);
  await run(1);
  expect([store.read("p"), store.read("state")]).toEqual([Float32Array.of(2, 4), Float32Array.of(3, 3, 3, 3, 5, 5, 5, 5)]);
});
