import { mkdtemp, open, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { openDevice } from "./device.js";
import { createGraph, type Value } from "./graph.js";
import { loadAddon } from "./native.js";
import { sameBits } from "./operation_cases.js";
import * as ops from "./ops/index.js";
import { planVersion } from "./plan.js";
import type { TensorData } from "./store.js";
import { size, type TensorType, tensor } from "./types.js";

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
  const missing = (message: string) => ({ code: "MISSING_TENSOR", message });
  await expect(executable.run()).rejects.toMatchObject(missing("the store has no tensor a"));
  expect(() => executable.read("sum", 0, 1)).toThrow("the outputs are gone");
  await store.write("a", type, Float32Array.of(1, 2, 3));
  await expect(executable.run()).rejects.toMatchObject(
    missing("tensor a was removed from the store and made anew; compile the graph again"),
  );
  await store[Symbol.asyncDispose]();
  const disposed = { code: "DISPOSED", message: "the store was disposed" };
  await expect(executable.run()).rejects.toMatchObject(disposed);
  expect(() => device.compile(graph, store)).toThrow(expect.objectContaining(disposed));
});

test("is disposed when the runs in progress are done", async () => {
  await using device = await openDevice("cpu");
  const before = device.memory().currentBytes;
  const store = device.createStore();
  const type = tensor("float32", [4]);
  await store.write("w", type, Float32Array.of(1, 2, 3, 4));
  const graph = createGraph();
  graph.output("twice", ops.add(graph.read("w", type), graph.read("w", type)));
  const executable = device.compile(graph, store);
  const running = [executable.run(), executable.run()];
  const disposing = store[Symbol.asyncDispose]();
  expect(() => store.names()).toThrow("the store was disposed");
  await disposing;
  for (const { twice } of await Promise.all(running)) expect(twice).toEqual(Float32Array.of(2, 4, 6, 8));
  await expect(executable.run()).rejects.toMatchObject({ code: "DISPOSED", message: "the store was disposed" });
  await executable[Symbol.asyncDispose]();
  expect(device.memory().currentBytes).toBe(before);
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
    store.map("w", tensor("float32", [4, 4], "panels"), path, 0);
    const refused = (name: string) =>
      expect.objectContaining({
        code: "INVALID_ARGUMENT",
        message: `${name} is mapped from a file and cannot be written; remove it first`,
      });
    expect(() => store.writePart("a", 0, Float32Array.of(1))).toThrow(refused("a"));
    await expect(store.write("a", tensor("float32", [16]), new Float32Array(16))).rejects.toThrow(refused("a"));
    await expect(store.write("w", tensor("float32", [4, 4], "panels"), new Float32Array(16))).rejects.toThrow(refused("w"));
    expect(store.read("a")).toEqual(values.slice(0, 16));
  });

  test.each(["cpu", "null"] as const)("cannot be assigned by a graph for the %s", async (kind) => {
    await using device = await openDevice(kind);
    await using store = device.createStore();
    const type = tensor("float32", [16]);
    for (const name of ["mapped", "own"]) {
      if (name === "own") store.allocate(name, type);
      else store.map(name, type, path, 0);
      for (const build of [(x: Value) => ops.add(x, x), (x: Value) => ops.slice(ops.concat(x, x), { begin: 0, end: 16 })]) {
        const graph = createGraph();
        graph.assign(name, build(graph.read(name, type)));
        const compile = () => device.compile(graph, store);
        if (name === "own") compile();
        else expect(compile).toThrow("tensor mapped is mapped from a file and cannot be assigned; load it with map: false");
      }
    }
  });

  test("is written by no plan, as the target of a copy or as an output", async () => {
    const native = new (loadAddon().Device)(1, "");
    const slots = { own: native.add(16), mapped: native.map(path, 0, 16) };
    const operand = (slot: number) => [0, 0, 1, slot, 16, 1, -1, 0, 4]; // a float32 [4] of the store
    const run = (to: number, form: "copy" | "output") => {
      const tensors = [...operand(slots.mapped), ...operand(to)];
      const step = [native.operations().indexOf("add"), 0, 0, 0, 2, 0, 0, 1, 1, 0]; // tensor 0 twice → tensor 1
      const plan = form === "copy" ? [0, 0, 0, 1, 64, 0, ...tensors, 0, 1] : [1, 0, 0, 0, 64, 0, ...tensors, ...step];
      const id = native.compile(Float64Array.of(planVersion, 0, 2, ...plan));
      return native.run(id, new Float64Array(0), [], false, new Uint32Array(0));
    };
    const [own, first] = [new Float32Array(4), values.slice(0, 4)];
    for (const [form, expected] of [
      ["copy", first],
      ["output", first.map((x) => 2 * x)],
    ] as const) {
      expect(() => run(slots.mapped, form)).toThrow("is mapped from a file and cannot be written");
      await run(slots.own, form);
      native.read(slots.own, 0, own);
      expect(own).toEqual(expected);
    }
    native.close();
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
      for (const [name, [begin, end]] of Object.entries(parts)) expect(sameBits(store.read(name), elements.slice(begin, end))).toBe(true);
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

describe("write", () => {
  test("makes no tensor where it is refused", async () => {
    await using device = await openDevice("cpu");
    await using store = device.createStore();
    const weights = tensor("bfloat16", [32, 32], "panels");
    const write = (type: TensorType, data: TensorData) => store.write("w", type, data);
    for (const [type, data, code] of [
      [weights, new Int32Array(1024), "INVALID_ARGUMENT"],
      [weights, new Float32Array(1023), "SHAPE_MISMATCH"],
      [weights, undefined as unknown as TensorData, "INVALID_ARGUMENT"],
      [tensor("int32", [32, 32], "panels"), new Float32Array(1024), "INVALID_ARGUMENT"],
      [tensor("float32", [1024], "panels"), new Float32Array(1024), "SHAPE_MISMATCH"],
      [tensor("int8", [4, 256], "rows"), new Int8Array(1024), "INVALID_ARGUMENT"],
      [tensor("float32", [4]), new Float64Array(4), "INVALID_ARGUMENT"],
      [tensor("float32", [size("T", 4)]), new Float32Array(0), "INVALID_ARGUMENT"],
    ] as const) {
      await expect(write(type, data), code).rejects.toMatchObject({ code });
      expect(store.has("w")).toBe(false);
      expect(store.bytes()).toBe(0);
    }
    await write(weights, new Float32Array(1024).fill(1));
    const panels = store.readBytes("w");
    await expect(write(weights, new Int32Array(1024))).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    expect(store.readBytes("w")).toEqual(panels);
  });

  test("makes no tensor on a device that holds no data", async () => {
    await using device = await openDevice("null");
    await using store = device.createStore();
    for (const encoding of ["plain", "panels"] as const)
      await expect(store.write("w", tensor("float32", [2, 2], encoding), new Float32Array(4))).rejects.toThrow("holds no data");
    expect(store.names()).toEqual([]);
    expect(device.memory().currentBytes).toBe(0);
  });

  test("waits for others, and takes the elements as they were when it was called", async () => {
    await using device = await openDevice("cpu");
    await using store = device.createStore();
    const data = new Float32Array(4);
    const names = ["a", "b", "c", "d"];
    const writes = names.map((name, i) => store.write(name, tensor("float32", [2, 2], i === 3 ? "plain" : "panels"), data.fill(i + 1)));
    data.fill(9);
    await Promise.all(writes);
    expect(names.map((name) => new Float32Array(store.readBytes(name).buffer)[0])).toEqual([1, 2, 3, 4]);
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
  for (const use of [first.names, first.bytes, first.hugeBytes]) expect(use).toThrow(refused);
  for (const use of [first.has, first.typeOf, first.read, first.readBytes, first.remove]) expect(() => use("a")).toThrow(refused);
  await expect(first.write("a", tensor("float32", [3]), new Float32Array(3))).rejects.toThrow(refused);
  await expect(first.prefetch("a")).rejects.toThrow(refused);
  await device[Symbol.asyncDispose]();
  for (const use of [second.names, second.bytes]) expect(use).toThrow(refused);
  for (const use of [second.has, second.typeOf]) expect(() => use("a")).toThrow(refused);
  for (const name of ["a", "b"]) expect(() => second.allocate(name, tensor("float32", [3]))).toThrow(refused);
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
