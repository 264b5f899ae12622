import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { describe, expect, it } from "vitest";
import { openDevice } from "./device.js";
import { differentiate } from "./differentiate.js";
import { isZayaError } from "./errors.js";
import type { Executable } from "./executable.js";
import { createGraph, type Value } from "./graph.js";
import { instructionSets } from "./operation_cases.js";
import * as ops from "./ops/index.js";
import { maxBytes, size, tensor } from "./types.js";

const T = size("T", 8);
const rows = tensor("float32", [T, 4]);

describe("a device", () => {
  it("uses the instruction set it is told to, and names those there are", async () => {
    await using device = await openDevice("cpu", { isa: "portable" });
    expect(device.isa).toBe("portable");
    const thrown = await openDevice("cpu", { isa: "sse9" as never }).catch((error: unknown) => error);
    expect(isZayaError(thrown) && [thrown.code, thrown.message]).toEqual([
      "INVALID_ARGUMENT",
      "the instruction set (ZAYA_ISA) is avx512, avx2 or portable, received sse9",
    ]);
  });

  it("is the cpu or null", async () => {
    await expect(openDevice("hip" as "cpu")).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
      message: "the device is cpu or null, received hip",
    });
  });

  it("has no other options than those it knows", async () => {
    await expect(openDevice("cpu", { thread: 1 } as object)).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
      message: "there is no option thread; devices have threads, isa, sharedCache, workspaces, guard",
    });
    await using device = await openDevice("cpu", { threads: undefined, isa: undefined });
    expect(device.threads).toBeGreaterThan(0);
  });

  it("rejects what the null device cannot do", async () => {
    await using device = await openDevice("null");
    const refused = { code: "INVALID_ARGUMENT", message: expect.stringContaining("the null device holds no data") };
    await expect(device.measure("read")).rejects.toMatchObject(refused);
    await expect(device.measureReads([1])).rejects.toMatchObject(refused);
  });

  it("refuses more threads than a system may have", async () => {
    for (const threads of [0, 1.5, 100_000])
      await expect(openDevice("cpu", { threads })).rejects.toMatchObject({
        code: "INVALID_ARGUMENT",
        message: expect.stringMatching(`threads must be a whole number from 1 to \\d+, received ${threads}`),
      });
  });

  it("runs a graph, binding sizes from the lengths of the inputs", async () => {
    await using device = await openDevice("cpu", { guard: true });
    const graph = createGraph();
    const x = graph.input("x", rows);
    graph.output("y", ops.add(x, x));
    await using executable = device.compile(graph);
    expect((await executable.run({ inputs: { x: Float32Array.of(1, 2, 3, 4) } })).y).toEqual(Float32Array.of(2, 4, 6, 8));
    expect((await executable.run({ inputs: { x: new Float32Array(0) }, sizes: { T: 0 } })).y).toEqual(new Float32Array(0));
  });

  it("says in one line what is wrong with the inputs", async () => {
    await using device = await openDevice("cpu");
    const graph = createGraph();
    const x = graph.input("x", rows);
    graph.output("y", ops.add(x, x));
    await using executable = device.compile(graph);
    await expect(executable.run()).rejects.toThrow("input x, float32 [T, 4], is missing");
    await expect(executable.run({ inputs: { x: new Float32Array(36) } })).rejects.toThrow(
      "size T is 9; it was declared to be a whole number from 0 to 8",
    );
    await expect(executable.run({ inputs: { x: new Int32Array(4) as never } })).rejects.toThrow(
      "takes a Float32Array, received Int32Array",
    );
    await expect(executable.run({ inputs: { x: new Float32Array(6) } })).rejects.toThrow(
      "input x is float32 [T, 4]: 6 elements are no whole number of T",
    );
    const running = { inputs: { x: new Float32Array(4) } };
    await expect(executable.run({ ...running, signal: new AbortController() as never })).rejects.toThrow(TypeError);
    expect(await executable.run(running)).toEqual({ y: new Float32Array(4) }); // nothing was left running
    await expect(executable.run({ inputs: { x: new Float32Array(4), z: new Float32Array(4) } })).rejects.toThrow(
      "the graph has no input z",
    );
    await expect(executable.run({ inputs: { x: new Float32Array(4) }, sizes: { T: 1, S: 1 } })).rejects.toThrow("the graph has no size S");
  });

  it("copies out the outputs that are asked for, and reads parts of the others afterwards", async () => {
    await using device = await openDevice("cpu", { guard: true });
    const graph = createGraph();
    const x = graph.input("x", rows);
    graph.output("twice", ops.add(x, x));
    graph.output("squares", ops.multiply(x, x));
    await using executable = device.compile(graph);
    expect(() => executable.read("twice", 0, 1)).toThrow("there was no run yet");
    const run = (...x: number[]) => executable.run({ inputs: { x: Float32Array.from(x) }, outputs: ["squares"] });
    expect(await run(1, 2, 3, 4)).toEqual({ squares: Float32Array.of(1, 4, 9, 16) });
    expect(executable.read("twice", 1, 3)).toEqual(Float32Array.of(4, 6));
    expect(executable.read("squares", 3, 4)).toEqual(Float32Array.of(16));
    const running = run(5, 6, 7, 8);
    expect(() => executable.read("twice", 0, 1)).toThrow("while a run of it is in progress");
    await running;
    expect(executable.read("twice", 0, 4)).toEqual(Float32Array.of(10, 12, 14, 16));
    expect(() => executable.read("twice", 3, 5)).toThrow("outside of an output");
    for (const begin of [-1, 0.5, 3]) expect(() => executable.read("twice", begin, 2), `from ${begin}`).toThrow("are not some of them");
    expect(() => executable.read("thrice", 0, 1)).toThrow("the graph has no output thrice");
    await expect(executable.run({ inputs: { x: new Float32Array(4) }, outputs: ["thrice"] })).rejects.toThrow("no output thrice");
  });

  it("updates the store when a step ends, and shares it between executables", async () => {
    await using device = await openDevice("cpu", { guard: true });
    const store = device.createStore();
    const type = tensor("float32", [4]);
    await store.write("total", type, Float32Array.of(1, 1, 1, 1));
    const graph = createGraph();
    const total = graph.read("total", type);
    graph.assign("total", ops.add(total, graph.input("x", type)));
    graph.output("before", ops.add(total, total));
    await using executable = device.compile(graph, store);
    for (let i = 0; i < 3; i++) await executable.run({ inputs: { x: Float32Array.of(1, 2, 3, 4) } });
    expect(store.read("total")).toEqual(Float32Array.of(4, 7, 10, 13));
  });

  it("assigns one result to two tensors, one of them in place", async () => {
    await using device = await openDevice("cpu", { guard: true });
    await using store = device.createStore();
    const type = tensor("float32", [2]);
    await store.write("a", type, Float32Array.of(1, 2));
    await store.write("b", type, Float32Array.of(0, 0));
    const graph = createGraph();
    const sum = ops.add(graph.read("a", type), graph.read("a", type));
    graph.assign("a", sum);
    graph.assign("b", sum);
    await using executable = device.compile(graph, store);
    for (let i = 0; i < 2; i++) await executable.run();
    expect([store.read("a"), store.read("b")]).toEqual([Float32Array.of(4, 8), Float32Array.of(4, 8)]);
  });

  it("leaves the store as it was when a run is aborted, and rejects with the signal's reason", async () => {
    await using device = await openDevice("cpu");
    const store = device.createStore();
    const type = tensor("float32", [256, 256]);
    store.allocate("w", type);
    const graph = createGraph();
    let y: Value = graph.input("x", type);
    for (let i = 0; i < 200; i++) y = ops.linear(y, y);
    graph.assign("w", ops.add(graph.read("w", type), y));
    await using executable = device.compile(graph, store);
    const controller = new AbortController();
    const running = executable.run({ inputs: { x: new Float32Array(256 * 256).fill(0.01) }, signal: controller.signal });
    controller.abort(new Error("enough"));
    await expect(running).rejects.toThrow("enough");
    expect((store.read("w") as Float32Array).every((value) => value === 0)).toBe(true);
  });

  it("rejects a queued run as soon as it is aborted, lets go of its inputs, and goes on with those behind it", async () => {
    const device = await openDevice("cpu");
    const type = tensor("float32", [256, 256]);
    const endless = createGraph();
    let y: Value = endless.input("x", type);
    for (let i = 0; i < 5000; i++) y = ops.linear(y, y); // until it is aborted
    endless.output("y", y);
    const graph = createGraph();
    graph.output("twice", ops.add(graph.input("x", rows), graph.input("x", rows)));
    const [long, short] = [device.compile(endless), device.compile(graph)];
    const [first, second] = [new AbortController(), new AbortController()];
    const settled: string[] = [];
    const noting = (name: string, run: Promise<unknown>) => run.finally(() => settled.push(name));
    const one = noting("one", long.run({ inputs: { x: new Float32Array(256 * 256) }, signal: first.signal }));
    const copies: WeakRef<Float32Array>[] = [];
    const enqueue = () => {
      const x = Object.assign(new Float32Array(4), {
        slice: () => {
          const copy = new Float32Array(4);
          copies.push(new WeakRef(copy));
          return copy;
        },
      });
      return noting("two", short.run({ inputs: { x }, signal: second.signal }));
    };
    const two = enqueue();
    const three = noting("three", short.run({ inputs: { x: Float32Array.of(1, 2, 3, 4) } }));
    second.abort(new Error("not needed any more"));
    await expect(two).rejects.toThrow("not needed any more");
    await new Promise(setImmediate); // a WeakRef holds what it was made of until then
    setFlagsFromString("--expose-gc");
    runInNewContext("gc")();
    expect(copies.map((copy) => copy.deref())).toEqual([undefined]);
    expect(settled).toEqual(["two"]);
    first.abort(new Error("enough"));
    await expect(one).rejects.toThrow("enough");
    expect(await three).toEqual({ twice: Float32Array.of(2, 4, 6, 8) });
    expect(settled).toEqual(["two", "one", "three"]);
    await device[Symbol.asyncDispose]();
  });

  it("is idle again after a run, also when one behind it was aborted", async () => {
    await using device = await openDevice("cpu");
    await using store = device.createStore();
    await store.write("w", tensor("float32", [1]), Float32Array.of(1));
    const graph = createGraph();
    graph.output("twice", ops.add(graph.input("x", rows), graph.input("x", rows)));
    await using executable = device.compile(graph);
    const controller = new AbortController();
    const { signal } = controller;
    const inputs = { x: new Float32Array(4) };
    const [one, two] = [executable.run({ inputs }), executable.run({ inputs, signal })];
    controller.abort();
    await expect(two).rejects.toThrow("aborted");
    await one;
    expect(store.read("w")).toEqual(Float32Array.of(1));
    await expect(executable.run({ inputs, signal })).rejects.toThrow("aborted");
  });

  it("allocates exactly what it planned", async () => {
    await using device = await openDevice("cpu");
    device.resetPeak();
    const { currentBytes: before } = device.memory();
    const store = device.createStore();
    const type = tensor("float32", [64, 64]);
    await store.write("w", type, new Float32Array(64 * 64));
    const graph = createGraph();
    const x = graph.input("x", type);
    const loss = ops.sum(ops.linear(x, graph.read("w", type)));
    graph.assign("w", ops.add(graph.read("w", type), differentiate(loss, [graph.read("w", type)])[0] as Value));
    graph.output("loss", loss);
    {
      await using executable = device.compile(graph, store);
      for (let i = 0; i < 5; i++) await executable.run({ inputs: { x: new Float32Array(64 * 64).fill(1) } });
      expect(device.memory().peakBytes - before).toBe(executable.arenaBytes + maxBytes(type));
    }
    await store[Symbol.asyncDispose]();
    expect(device.memory().currentBytes).toBe(before);
  });

  it("gives its executables one arena, as large as the largest wants", async () => {
    await using device = await openDevice("cpu");
    const before = device.memory().currentBytes;
    const held = () => device.memory().currentBytes - before;
    const compile = (rows: number) => {
      const graph = createGraph();
      const x = graph.input("x", tensor("float32", [rows, 64]));
      graph.output("twice", ops.add(x, x));
      return device.compile(graph);
    };
    const run = async (executable: Executable, rows: number, value: number) => {
      const { twice } = await executable.run({ inputs: { x: new Float32Array(rows * 64).fill(value) } });
      expect(twice).toEqual(new Float32Array(rows * 64).fill(2 * value));
    };
    const small = compile(8);
    expect(held()).toBe(small.arenaBytes);
    await run(small, 8, 1);
    const running = run(small, 8, 2);
    const large = compile(80); // while the other runs in the arena that is too small for it
    await running;
    expect(small.read("twice", 0, 1)).toEqual(Float32Array.of(4));
    await run(large, 80, 3);
    expect(held()).toBe(large.arenaBytes);
    expect(() => small.read("twice", 0, 1)).toThrow("another executable of the device has run since");
    await run(small, 8, 5);
    expect(() => large.read("twice", 0, 1)).toThrow("another executable of the device has run since");
    expect(small.read("twice", 0, 1)).toEqual(Float32Array.of(10));
    await large[Symbol.asyncDispose]();
    await run(small, 8, 6);
    expect(held()).toBe(small.arenaBytes);
    await small[Symbol.asyncDispose]();
    expect(held()).toBe(0);
  });

  it("rejects with a code after it was disposed", async () => {
    const device = await openDevice("cpu");
    const graph = createGraph();
    const x = graph.input("x", rows);
    graph.output("y", ops.add(x, x));
    const executable = device.compile(graph);
    await executable[Symbol.asyncDispose]();
    const thrown = await executable.run({ inputs: { x: new Float32Array(4) } }).catch((error: unknown) => error);
    expect(isZayaError(thrown) && thrown.code).toBe("DISPOSED");
    await device[Symbol.asyncDispose]();
    expect(() => device.compile(graph)).toThrow("the device was disposed");
  });

  it("resolves a run when it is done, not when those queued after it are", async () => {
    await using device = await openDevice("cpu");
    const graph = createGraph();
    const x = graph.input("x", rows);
    graph.output("y", ops.add(x, x));
    await using executable = device.compile(graph);
    const done: string[] = [];
    const run = (name: string) => executable.run({ inputs: { x: new Float32Array(4) } }).then(() => done.push(name));
    const [first, second] = [run("first"), run("second")];
    await first;
    expect(done).toEqual(["first"]);
    await second;
  });

  it("takes inputs as they were when run was called", async () => {
    await using device = await openDevice("cpu");
    const graph = createGraph();
    const x = graph.input("x", rows);
    graph.output("y", ops.add(x, x));
    await using executable = device.compile(graph);
    const inputs = { x: new Float32Array(4) };
    const run = (value: number) => {
      inputs.x.fill(value);
      return executable.run({ inputs });
    };
    const running = [1, 2, 3].map(run);
    inputs.x.fill(9);
    const profiled = executable.profile({ inputs });
    inputs.x = new Float32Array(4);
    expect((await Promise.all(running)).map(({ y }) => y?.[0])).toEqual([2, 4, 6]);
    expect((await profiled).outputs.y?.[0]).toBe(18);
  });

  it.each([0, 1])("finishes %i runs in progress when it is disposed, and refuses another", async (runs) => {
    const device = await openDevice("cpu");
    const graph = createGraph();
    const x = graph.input("x", rows);
    graph.output("y", ops.add(x, x));
    const executable = device.compile(graph);
    const run = () => executable.run({ inputs: { x: Float32Array.of(1, 2, 3, 4) } });
    const running = Array.from({ length: runs }, run);
    const closing = [device[Symbol.asyncDispose](), device[Symbol.asyncDispose]()];
    await expect(run()).rejects.toMatchObject({ code: "DISPOSED" });
    for (const results of await Promise.all(running)) expect(results.y).toEqual(Float32Array.of(2, 4, 6, 8));
    await Promise.all(closing);
  });

  it("names the tensor of the store that a graph wants and that is missing or of another type", async () => {
    await using device = await openDevice("null");
    const store = device.createStore();
    const graph = createGraph();
    graph.output("y", ops.sum(graph.read("w", rows)));
    expect(() => device.compile(graph, store)).toThrow("tensor w of the store, float32 [T, 4], which is not there");
    store.allocate("w", tensor("bfloat16", [4]));
    expect(() => device.compile(graph, store)).toThrow("tensor w of the store is bfloat16 [4]; the graph expects float32 [T, 4]");
  });

  it("measures the peak of every instruction set and the memory, and refuses what it does not know", async () => {
    for (const isa of await instructionSets()) {
      await using device = await openDevice("cpu", { threads: 2, isa });
      for (const what of ["float32", "bfloat16", "int8", "read"] as const) expect(await device.measure(what, 1), what).toBeGreaterThan(0);
      const unknown = device.measure("int3" as "int8", 1);
      await expect(unknown).rejects.toThrow("expected float32, bfloat16, int8 or read, received int3");
    }
  });

  it("measures what is left of the memory's speed where it is read in pieces", async () => {
    await using device = await openDevice("cpu", { threads: 2 });
    expect(await device.measureReads([1, 5000, 300 * 2 ** 20], 1)).toBeGreaterThan(0); // the last is larger than the buffer
    for (const pieces of [[], [0], [1000, -1], [Number.NaN], [Number.POSITIVE_INFINITY]])
      await expect(device.measureReads(pieces, 1)).rejects.toMatchObject({
        code: "INVALID_ARGUMENT",
        message: expect.stringContaining(`[${pieces.join(", ")}]`),
      });
  });

  it("keeps the memory that reading is measured in as long as it is told to", async () => {
    const device = await openDevice("cpu", { threads: 2 });
    const before = device.memory().currentBytes;
    const held = () => device.memory().currentBytes - before;
    await device.measure("read", 1, { keepBuffer: true });
    const buffer = held();
    expect(buffer).toBeGreaterThan(2 ** 28);
    await device.measureReads([1000], 1, { keepBuffer: true });
    expect(held()).toBe(buffer);
    await device.measure("int8", 1);
    expect(held()).toBe(0);
    await device.measureReads([1000], 1, { keepBuffer: true });
    await device[Symbol.asyncDispose]();
    expect(held()).toBeLessThanOrEqual(0); // what its threads had is gone too
  });
});
