import { availableParallelism } from "node:os";
import { fail, ZayaError } from "./errors.js";
import { bindSizes, type Executable, inputNames, orderInputs, type RunOptions, withOwnInputs } from "./executable.js";
import { createGraph, type Graph, type Value } from "./graph.js";
import { type InstructionSetInfo, whyBest } from "./instruction_sets.js";
import { layOut } from "./layout.js";
import { lower } from "./lower.js";
import { type InstructionSet, loadAddon, type NativeDevice } from "./native.js";
import { encode } from "./ops/encode.js";
import { inputValues, type PlanSource, sizesOf, writePlan } from "./plan.js";
import { matrixProducts } from "./products.js";
import { schedule } from "./schedule.js";
import { arrayFor, expectRange, type OpenStore, openStore, type Store, type StoreBackend, type TensorData } from "./store.js";
import { describeType, maxElements, type PanelType, tensor } from "./types.js";

export interface DeviceOptions {
  /** Threads of the CPU device, the dispatcher among them. Default: as many as the process may use. Results do not depend on it. */
  readonly threads?: number | undefined;
  /** Instruction set of the CPU kernels. Default: `ZAYA_ISA` from the environment, else the best the processor has. */
  readonly isa?: InstructionSet | undefined;
  /** Whether the threads are taken to share a cache, which decides what passes by it. Default: measured again and again. Results do not depend on it. */
  readonly sharedCache?: boolean | undefined;
  /**
   * Whether the null device counts what the CPU's kernels want beside the tensors, on this machine and so many threads. It then needs the addon.
   * Default false.
   */
  readonly workspaces?: boolean | undefined;
  /** Puts poison behind every buffer and checks it after each operation: for tests of kernels. */
  readonly guard?: boolean | undefined;
}

const measured = ["float32", "bfloat16", "int8", "read"] as const;
const optionNames = ["threads", "isa", "sharedCache", "workspaces", "guard"] as const satisfies readonly (keyof DeviceOptions)[];

/** Native bytes that all devices of the process have reserved. Large blocks become memory only as they are touched. */
export interface MemoryUse {
  readonly currentBytes: number;
  /** The most since the addon was loaded, or since `resetPeak`. */
  readonly peakBytes: number;
}

/** Something that runs graphs. */
export interface Device extends AsyncDisposable {
  readonly kind: "cpu" | "null";
  /** Instruction set in use; "none" on the null device. */
  readonly isa: InstructionSet | "none";
  /** Why it is this one: "the best of this processor", with what it lacks for a better one, or who asked for it. */
  readonly isaReason: string;
  readonly threads: number;
  createStore(): Store;
  /** Checks the graph, plans its memory and makes it ready to run. Tensors that it reads or assigns must be in the store. */
  compile(graph: Graph, store?: Store): Executable;
  memory(): MemoryUse;
  /** Starts a new peak at what is reserved now. */
  resetPeak(): void;
  /**
   * Peak of this machine now, over about `milliseconds` (default 20) on all threads with the device's instruction set: 10⁹ operations/s, or GB/s for "read",
   * which goes through 1 GiB that it holds meanwhile.
   */
  measure(what: (typeof measured)[number], milliseconds?: number, options?: MeasureOptions): Promise<number>;
  /**
   * GB/s that a loop which only reads reaches on memory in pieces of so many bytes, as a step of a model goes through its weights: every thread reads a part
   * of a piece, and all meet before the next. Unlike the peak of "read" a mean, over about `milliseconds` (default 100).
   * @throws INVALID_ARGUMENT unless the sizes are at least 1 and of less than 2⁵³ bytes together
   */
  measureReads(pieces: readonly number[], milliseconds?: number, options?: MeasureOptions): Promise<number>;
}

export interface MeasureOptions {
  /**
   * Keep the memory that reading is measured in until a measurement without this, or until the device is closed. A system may spend a tenth of a second on
   * what is given back, some seconds later: where measurements alternate with work, that work would be disturbed. Default false.
   */
  readonly keepBuffer?: boolean | undefined;
}

/**
 * Opens the CPU, or the null device, which plans graphs of any size without memory, addon or kernels (the option `workspaces` aside).
 * @throws NATIVE_UNAVAILABLE when the addon cannot be loaded, with every path tried; INVALID_ARGUMENT for another kind or option, or
 * more threads than 64 or four a core
 */
export async function openDevice(kind: "cpu" | "null" = "cpu", options: DeviceOptions = {}): Promise<Device> {
  if (kind !== "cpu" && kind !== "null") fail("INVALID_ARGUMENT", `the device is cpu or null, received ${String(kind)}`);
  const unknown = Object.keys(options).find((name) => !optionNames.includes(name as keyof DeviceOptions));
  if (unknown !== undefined) fail("INVALID_ARGUMENT", `there is no option ${unknown}; devices have ${optionNames.join(", ")}`);
  const threads = options.threads ?? availableParallelism();
  // A system that has no more threads would end the process: the addon is compiled without exceptions.
  const most = Math.max(64, 4 * availableParallelism());
  if (!Number.isInteger(threads) || threads < 1 || threads > most)
    fail("INVALID_ARGUMENT", `threads must be a whole number from 1 to ${most}, received ${threads}`);
  return kind === "null" ? openNullDevice(threads, options) : openCpuDevice(threads, options);
}

interface Kernels {
  readonly native: NativeDevice;
  /** Where each operation is in its list. */
  readonly operations: ReadonlyMap<string, number>;
}

function openKernels(threads: number, given?: InstructionSet, sharedCache?: boolean): Kernels {
  const addon = loadAddon();
  const native = callNative(() => new addon.Device(threads, given ?? process.env.ZAYA_ISA ?? "", sharedCache), "INVALID_ARGUMENT");
  return { native, operations: new Map(native.operations().map((name, i) => [name, i])) };
}

/** Bytes that each step wants beside its tensors, at the largest sizes. */
function workspacesOf({ native }: Kernels, source: PlanSource): number[] {
  const maxima = Float64Array.from(source.sizes, (size) => size.max);
  const none = source.schedule.steps.map(() => 0);
  return [...callNative(() => native.workspaces(writePlan(source, null, none, 0), maxima))];
}

function openCpuDevice(threads: number, { isa: given, sharedCache, guard = false }: DeviceOptions): Device {
  const addon = loadAddon();
  const kernels = openKernels(threads, given, sharedCache);
  const { native, operations } = kernels;
  const instructionSets = addon.instructionSets();
  const { instructions } = instructionSets.find(({ name }) => name === native.isa) as InstructionSetInfo;
  const guardBytes = guard ? 64 : 0;
  let last: Promise<unknown> = Promise.resolve();
  let active = 0;
  let closing: Promise<void> | undefined;
  let closed = false;
  const expectOpen = () => {
    if (closing) fail("DISPOSED", "the device was disposed");
  };

  /** Runs jobs one after the other; the first of an idle device starts at once, and one that is aborted while it waits is not run. */
  function enqueue<T>(job: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    if (closing) return Promise.reject(new ZayaError("DISPOSED", "the device was disposed"));
    if (signal?.aborted) return Promise.reject(signal.reason);
    const before = last;
    const result = active++ === 0 ? job() : inTurn(before, job, signal);
    const settled = result.then(
      () => {},
      () => {},
    );
    const mine = settled.then(() => {
      active--;
    });
    last = before.then(() => mine);
    return result.finally(() => mine);
  }

  const backend: StoreBackend = {
    add: (bytes) => callNative(() => native.add(bytes)),
    map: (path, offset, bytes) => callNative(() => native.map(path, offset, bytes)),
    prefetch: (slot, hugePages) => enqueue(async () => void (await callNative(() => native.prefetch(slot, hugePages)))),
    hugeBytes: () => native.hugeBytes(),
    remove(slot) {
      if (active === 0) native.remove(slot);
      else void enqueue(async () => native.remove(slot)).catch(() => {}); // refused once the device closes, which frees all
    },
    write: (slot, offset, data) => callNative(() => native.write(slot, offset, data)),
    read: (slot, offset, into) => callNative(() => native.read(slot, offset, into)),
    async encode(store, name, type, data) {
      const graph = createGraph();
      const source = data instanceof Float32Array ? "float32" : data instanceof Float64Array ? "float64" : "bfloat16";
      graph.assign(name, encode(graph.input("plain", tensor(source, type.shape)), type.dtype as PanelType));
      await using executable = device.compile(graph, store);
      await executable.run({ inputs: { plain: data } });
    },
    expectIdle(what) {
      expectOpen();
      if (active > 0) fail("INVALID_ARGUMENT", `cannot ${what} a tensor of the store while a run is in progress; await it first`);
    },
    idle: () => last,
    isClosed: () => closing !== undefined,
  };

  const device: Device = {
    kind: "cpu",
    isa: native.isa,
    isaReason: given ? "asked for by the program" : process.env.ZAYA_ISA ? "asked for by ZAYA_ISA" : whyBest(instructionSets, native.isa),
    threads,
    memory: () => addon.memory(),
    resetPeak: () => addon.resetPeak(),
    createStore: () => openStore(backend),
    async measure(what, milliseconds = 20, { keepBuffer = false } = {}) {
      if (!measured.includes(what))
        fail("INVALID_ARGUMENT", `[measure] expected float32, bfloat16, int8 or read, received ${String(what)}`);
      expectDuration(milliseconds);
      return await enqueue(async () => callNative(() => native.measure(what, milliseconds, Boolean(keepBuffer))));
    },
    async measureReads(pieces, milliseconds = 100, { keepBuffer = false } = {}) {
      expectDuration(milliseconds);
      const bytes = pieces.reduce((sum, size) => sum + (size >= 1 ? size : Number.NaN), 0);
      if (!(bytes >= 1 && bytes <= Number.MAX_SAFE_INTEGER))
        fail("INVALID_ARGUMENT", `pieces must have 1 byte or more each, received [${pieces.join(", ")}]`);
      return await enqueue(async () => callNative(() => native.measureReads(Float64Array.from(pieces), milliseconds, Boolean(keepBuffer))));
    },
    compile(original, store) {
      expectOpen();
      const graph = lower(original, (name) => operations.has(name));
      const plan = schedule(graph);
      checkStore(graph, store, backend);
      const sizes = sizesOf(graph);
      const slots = new Map<string, number>();
      const slotOf = (name: string) => {
        const slot = (store as OpenStore).slotOf(name);
        slots.set(name, slot);
        return slot;
      };
      const expectTensors = () => {
        for (const [name, slot] of slots) {
          if ((store as OpenStore).slotOf(name) !== slot)
            fail("MISSING_TENSOR", `tensor ${name} was removed from the store and made anew; compile the graph again`);
        }
      };
      const source = { graph, schedule: plan, sizes, operations, slotOf };
      const workspaceBytes = workspacesOf(kernels, source);
      const layout = layOut(graph, plan, workspaceBytes, guardBytes);
      const id = callNative(() => native.compile(writePlan(source, layout, workspaceBytes, guardBytes)));
      const inputs = inputValues(graph, layout);
      const names = inputNames(original);
      const outputs = [...graph.outputs];
      const allOutputs = Uint32Array.from(outputs, (_, i) => i);
      const outputIndex = (name: string) => {
        const index = outputs.findIndex(([output]) => output === name);
        return index < 0 ? fail("INVALID_ARGUMENT", `the graph has no output ${name}`) : index;
      };
      let dropped = false;
      let runs = 0;
      const counted = <T>(result: Promise<T>): Promise<T> => {
        runs++;
        return result.finally(() => runs--);
      };

      /** A run that starts at once copies its inputs itself. */
      const withOwn = (options: RunOptions) => (active > 0 ? withOwnInputs(options) : options);
      async function start(options: RunOptions, timing: boolean): Promise<Record<string, TensorData>> {
        if (dropped) fail("DISPOSED", "the executable was disposed");
        const { signal, inputs: data = {} } = options;
        const bound = bindSizes(sizes, inputs, options);
        const arrays = orderInputs(names, inputs, data);
        const values = Float64Array.from(sizes, (size) => bound.get(size.name) as number);
        const wanted = options.outputs ? Uint32Array.from(options.outputs, outputIndex) : allOutputs;
        const abort = () => native.abort();
        signal?.addEventListener("abort", abort, { once: true }); // first: what is no signal fails before anything runs
        const running = callNative(
          () => native.run(id, values, arrays, timing, wanted),
          "KERNEL_FAILED",
          () => {
            signal?.removeEventListener("abort", abort);
            expectTensors();
          },
        );
        const buffers = await running
          .catch((cause) => fail("KERNEL_FAILED", (cause as Error).message))
          .finally(() => signal?.removeEventListener("abort", abort));
        if (buffers === null) throw signal?.reason ?? new ZayaError("DISPOSED", "the run was stopped");
        return Object.fromEntries(
          Array.from(wanted, (index, i) => {
            const [name, value] = outputs[index] as (typeof outputs)[number];
            return [name, arrayFor(value.type.dtype, buffers[i] as ArrayBuffer)];
          }),
        );
      }
      return {
        arenaBytes: layout.arenaBytes,
        steps: plan.steps.map((node) => node.name),
        products: matrixProducts(plan.steps, instructions),
        run(options = {}) {
          const own = withOwn(options);
          return counted(enqueue(() => start(own, false), own.signal));
        },
        read(output, begin, end) {
          if (dropped || closed) fail("DISPOSED", "the executable was disposed");
          if (runs > 0) fail("INVALID_ARGUMENT", `cannot read output ${output} while a run of it is in progress; await that first`);
          const index = outputIndex(output);
          const { type } = (outputs[index] as (typeof outputs)[number])[1];
          expectRange(`output ${output}`, begin, end, maxElements(type));
          const into = arrayFor(type.dtype, end - begin);
          callNative(() => native.readOutput(id, index, begin * into.BYTES_PER_ELEMENT, into), "INVALID_ARGUMENT");
          return into;
        },
        profile(options = {}) {
          const own = withOwn(options);
          return counted(
            enqueue(async () => {
              const results = await start(own, true);
              return { outputs: results, nanoseconds: [...native.times(id)] };
            }, own.signal),
          );
        },
        async [Symbol.asyncDispose]() {
          if (dropped) return;
          dropped = true;
          await last;
          if (!closed) native.drop(id);
        },
      };
    },
    [Symbol.asyncDispose]() {
      closing ??= last.then(() => {
        closed = true;
        native.close();
      });
      return closing;
    },
  };
  return device;
}

/** Runs a job when others are done. Aborting it before rejects at once and lets go of it, and so of the inputs it holds. */
function inTurn<T>(others: Promise<unknown>, job: () => Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return others.then(job);
  let waiting: (() => Promise<T>) | null = job;
  return new Promise((resolve, reject) => {
    const abort = () => {
      waiting = null;
      reject(signal.reason);
    };
    signal.addEventListener("abort", abort, { once: true });
    void others.then(() => {
      signal.removeEventListener("abort", abort);
      if (waiting) resolve(waiting());
      waiting = null;
    });
  });
}

const noInstructions = { float32: "none", bfloat16: "none", int8: "none" };

/** Plans graphs without running them: layout and byte counts of any model in milliseconds. */
function openNullDevice(threads: number, { isa, workspaces = false }: DeviceOptions): Device {
  const kernels = workspaces ? openKernels(threads, isa) : undefined;
  let next = 0;
  let held = 0;
  let peak = 0;
  let closed = false;
  const expectOpen = () => {
    if (closed) fail("DISPOSED", "the device was disposed");
  };
  const unavailable = (): never => fail("INVALID_ARGUMENT", "the null device holds no data and runs nothing; open the cpu");
  const sizesOfSlots = new Map<number, number>();
  const backend: StoreBackend = {
    add(bytes) {
      held += bytes;
      peak = Math.max(peak, held);
      sizesOfSlots.set(next, bytes);
      return next++;
    },
    map: () => next++,
    prefetch: async () => {},
    hugeBytes: () => -1,
    remove(slot) {
      held -= sizesOfSlots.get(slot) ?? 0;
      sizesOfSlots.delete(slot);
    },
    write: unavailable,
    read: unavailable,
    encode: unavailable,
    expectIdle: expectOpen,
    idle: async () => {},
    isClosed: () => closed,
  };
  return {
    kind: "null",
    isa: "none",
    isaReason: "the null device has no kernels",
    threads,
    createStore: () => openStore(backend),
    memory: () => ({ currentBytes: held, peakBytes: peak }),
    resetPeak: () => {
      peak = held;
    },
    measure: async () => unavailable(),
    measureReads: async () => unavailable(),
    compile(graph, store) {
      expectOpen();
      const lowered = lower(graph, (name) => kernels?.operations.has(name) ?? true);
      const plan = schedule(lowered);
      checkStore(lowered, store, backend);
      const workspaceBytes = kernels
        ? workspacesOf(kernels, {
            graph: lowered,
            schedule: plan,
            sizes: sizesOf(lowered),
            operations: kernels.operations,
            slotOf: () => 0,
          })
        : [];
      const layout = layOut(lowered, plan, workspaceBytes, 0);
      return {
        arenaBytes: layout.arenaBytes,
        steps: plan.steps.map((node) => node.name),
        products: matrixProducts(plan.steps, noInstructions),
        run: async () => unavailable(),
        read: unavailable,
        profile: async () => unavailable(),
        async [Symbol.asyncDispose]() {},
      };
    },
    async [Symbol.asyncDispose]() {
      if (!closed) kernels?.native.close();
      closed = true;
      held = 0;
    },
  };
}

/** Every tensor that the graph reads or assigns is in the store, which is this device's, with the type the graph expects; none it assigns is mapped. */
function checkStore(graph: Graph, store: Store | undefined, backend: StoreBackend): void {
  if (store && (store as OpenStore).backend !== backend) fail("INVALID_ARGUMENT", "the store belongs to another device");
  const check = (name: string, value: Value) => {
    if (!store?.has(name))
      fail(
        "MISSING_TENSOR",
        `the graph uses tensor ${name} of the store, ${describeType(value.type)}, which ${store ? "is not there" : "was not given to compile"}`,
      );
    const type = store.typeOf(name);
    if (describeType(type) !== describeType(value.type))
      fail("SHAPE_MISMATCH", `tensor ${name} of the store is ${describeType(type)}; the graph expects ${describeType(value.type)}`);
  };
  for (const node of graph.nodes) if (node.kind === "read") check(node.name, node.outputs[0] as Value);
  for (const [name, value] of graph.assigns) {
    check(name, value);
    if ((store as OpenStore).isMapped(name))
      fail("INVALID_ARGUMENT", `tensor ${name} is mapped from a file and cannot be assigned; load it with map: false`);
  }
}

function expectDuration(milliseconds: number): void {
  if (!(typeof milliseconds === "number" && milliseconds >= 0 && milliseconds < 1e6))
    fail("INVALID_ARGUMENT", `expected milliseconds ≥ 0 and below 10⁶, received ${milliseconds}`);
}

/** Errors of the addon become errors of this package; `explain` may throw one that says more. */
function callNative<T>(call: () => T, code: "KERNEL_FAILED" | "INVALID_ARGUMENT" = "KERNEL_FAILED", explain?: () => void): T {
  try {
    return call();
  } catch (cause) {
    explain?.();
    return fail(code, cause instanceof Error ? cause.message : String(cause), cause);
  }
}
