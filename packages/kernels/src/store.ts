import { fail } from "./errors.js";
import { bytesOf, type DType, describeType, maxBytes, type TensorType, tensor } from "./types.js";

/** Elements of a tensor in JavaScript; bfloat16 as its 16 bits, quantised panels as their bytes. */
export type TensorData = Float32Array | Float64Array | Int32Array | Uint16Array | Int8Array | Uint8Array;

/**
 * Persistent tensors of a device by name: parameters, moments, caches. Shared by executables of that device; changed by their `assign`s. Once it or its
 * device is disposed, methods throw DISPOSED; disposing waits for runs in progress.
 */
export interface Store extends AsyncDisposable {
  names(): readonly string[];
  has(name: string): boolean;
  /** @throws MISSING_TENSOR */
  typeOf(name: string): TensorType;
  /** Makes a tensor of zeros. Sizes in its shape must be numbers. */
  allocate(name: string, type: TensorType): void;
  /**
   * Makes (or overwrites) a tensor with these elements, row-major. With the encoding "panels" they are packed on the device,
   * from float32, bfloat16 or float64, rounded to the tensor's element type (integers: see {@link encode}). A write waits for others that
   * are being packed; one that fails makes no tensor.
   * @throws INVALID_ARGUMENT for a mapped tensor, another type than it has, or another kind of array
   */
  write(name: string, type: TensorType, data: TensorData): Promise<void>;
  /** Overwrites part of a plain tensor, from element `begin` on. @throws INVALID_ARGUMENT outside of it */
  writePart(name: string, begin: number, data: TensorData): void;
  /**
   * Makes a tensor that is a read-only part of a file, memory-mapped: nothing is copied, pages are shared between processes. The file must stay as it is;
   * where it is made shorter the system ends the process that reads what was cut off (SIGBUS). A new file that is renamed over it does no harm.
   */
  map(name: string, type: TensorType, path: string, byteOffset: number): void;
  /** Brings a mapped tensor into memory, so that the first run that reads it does not wait for the disk. */
  prefetch(name: string, options?: PrefetchOptions): Promise<void>;
  /** A copy of the elements from `begin` to `end` (all by default) of a plain tensor. @throws INVALID_ARGUMENT outside of it */
  read(name: string, begin?: number, end?: number): TensorData;
  /** A copy of a tensor's bytes as they lie in memory, in any encoding; at the start of `into` when that is given. */
  readBytes(name: string, into?: Uint8Array): Uint8Array;
  remove(name: string): void;
  /** Bytes of native memory it holds, mapped files left out. */
  bytes(): number;
  /** Bytes of its mapped tensors that lie in huge pages; null where the system does not tell (Linux before 6.7). */
  hugeBytes(): number | null;
}

export interface PrefetchOptions {
  /**
   * Whether what lies in small pages of the system's cache of files, as after a copy or a download, is brought into huge ones (2 MiB), from which it is
   * read up to a fifth faster: the kernel moves it where it can (MADV_COLLAPSE), else it is read from the disk again. Where the kernel or the file
   * system has no huge pages for files, nothing changes. Default false.
   */
  readonly hugePages?: boolean | undefined;
}

const arrays = {
  float32: Float32Array,
  float64: Float64Array,
  int32: Int32Array,
  bfloat16: Uint16Array,
  int8: Int8Array,
  int6: Uint8Array,
  int4: Uint8Array,
} as const;

/** An array for `elements` of this type, from a buffer or of zeros. */
export function arrayFor(dtype: DType, source: ArrayBuffer | number): TensorData {
  return typeof source === "number" ? new arrays[dtype](source) : new arrays[dtype](source);
}

/** @throws INVALID_ARGUMENT when the array's kind is not the type's */
export function expectArray(name: string, type: TensorType, data: TensorData): void {
  if (!(data instanceof arrays[type.dtype])) {
    fail(
      "INVALID_ARGUMENT",
      `${name} is ${describeType(type)} and takes a ${arrays[type.dtype].name}, received ${data?.constructor?.name ?? typeof data}`,
    );
  }
}

/** @throws INVALID_ARGUMENT, SHAPE_MISMATCH unless a tensor of this type can be made from the array */
function expectElements(name: string, type: TensorType, data: TensorData): void {
  if (type.encoding === "rows") fail("INVALID_ARGUMENT", `${name} is ${describeType(type)}, made for one step; it cannot be written`);
  if (type.encoding === "plain") expectArray(name, type, data);
  else if (![Float32Array, Float64Array, Uint16Array].some((kind) => data instanceof kind))
    fail(
      "INVALID_ARGUMENT",
      `${name} is ${describeType(type)}, packed from a Float32Array, Float64Array or Uint16Array (bfloat16), received ${data?.constructor?.name ?? typeof data}`,
    );
  const elements = type.shape.reduce<number>((n, dimension) => n * (typeof dimension === "number" ? dimension : 0), 1);
  if (data.length !== elements)
    fail("SHAPE_MISMATCH", `${name}: expected ${elements} elements for ${describeType(type)}, received ${data.length}`);
}

/** @throws INVALID_ARGUMENT unless elements `begin` to `end` are some, or none, of so many */
export function expectRange(name: string, begin: number, end: number, elements: number): void {
  if (!Number.isInteger(begin) || !Number.isInteger(end) || begin < 0 || begin > end || end > elements)
    fail("INVALID_ARGUMENT", `${name} has elements 0 to ${elements}; ${begin} to ${end} are not some of them`);
}

export interface StoreBackend {
  add(bytes: number): number;
  map(path: string, offset: number, bytes: number): number;
  prefetch(slot: number, hugePages: boolean): Promise<void>;
  /** -1 where it is not known. */
  hugeBytes(): number;
  /** At once, or after the runs in progress. */
  remove(slot: number): void;
  write(slot: number, offset: number, data: TensorData): void;
  read(slot: number, offset: number, into: TensorData | Uint8Array): void;
  /** Packs row-major elements into a tensor of the encoding "panels". */
  encode(store: Store, name: string, type: TensorType, data: TensorData): Promise<void>;
  /** Throws while a run could be touching the tensors. */
  expectIdle(what: string): void;
  /** Resolves when the runs in progress are done. */
  idle(): Promise<unknown>;
  /** Whether the device was disposed, and all tensors with it. */
  isClosed(): boolean;
}

export interface OpenStore extends Store {
  /** Of the device that made it. */
  readonly backend: StoreBackend;
  slotOf(name: string): number;
  isMapped(name: string): boolean;
}

export function openStore(backend: StoreBackend): OpenStore {
  const tensors = new Map<string, { type: TensorType; slot: number; bytes: number; mapped: boolean }>();
  const find = (name: string) => {
    expectOpen();
    return tensors.get(name) ?? fail("MISSING_TENSOR", `the store has no tensor ${name}`);
  };
  let disposed = false;
  const expectOpen = () => {
    if (disposed || backend.isClosed()) fail("DISPOSED", `the ${disposed ? "store" : "device"} was disposed`);
  };
  const expectIdle = (what: string) => {
    expectOpen();
    backend.expectIdle(what);
  };
  const expectWritable = (name: string) => {
    if (tensors.get(name)?.mapped) fail("INVALID_ARGUMENT", `${name} is mapped from a file and cannot be written; remove it first`);
  };
  const expectNew = (name: string) => {
    expectOpen();
    if (tensors.has(name)) fail("INVALID_ARGUMENT", `the store has a tensor ${name} already; remove it first`);
  };
  let packing: Promise<void> | null = null;
  const pack = (name: string, type: TensorType, data: TensorData) => {
    const packed = backend.encode(store, name, type, data);
    const done = () => {
      packing = null;
    };
    packing = packed.then(done, done);
    return packed;
  };
  const fixedBytes = (name: string, type: TensorType) => {
    if (type.shape.some((dimension) => typeof dimension !== "number"))
      fail("INVALID_ARGUMENT", `${name}: a tensor of the store needs a fixed shape, received ${describeType(type)}`);
    const bytes = maxBytes(tensor(type.dtype, type.shape, type.encoding));
    if (!Number.isSafeInteger(bytes)) fail("INVALID_ARGUMENT", `${name}: ${describeType(type)} is larger than any memory`);
    return bytes;
  };

  const store: OpenStore = {
    names() {
      expectOpen();
      return [...tensors.keys()];
    },
    has(name) {
      expectOpen();
      return tensors.has(name);
    },
    typeOf: (name) => find(name).type,
    slotOf: (name) => find(name).slot,
    isMapped: (name) => find(name).mapped,
    backend,
    allocate(name, type) {
      expectNew(name);
      expectIdle("allocate");
      const bytes = fixedBytes(name, type);
      tensors.set(name, { type, slot: backend.add(bytes), bytes, mapped: false });
    },
    async write(name, type, data) {
      expectOpen();
      expectElements(name, type, data);
      const elements = packing ? data.slice() : data; // the caller may fill its array anew while this waits
      while (packing) await packing;
      expectOpen();
      const known = tensors.get(name);
      if (known && describeType(known.type) !== describeType(type))
        fail("INVALID_ARGUMENT", `${name} is ${describeType(known.type)}, cannot write ${describeType(type)}`);
      expectWritable(name);
      if (type.encoding === "plain") expectIdle("write");
      if (!known) store.allocate(name, type);
      const { slot } = find(name);
      try {
        if (type.encoding === "panels") await pack(name, type, elements);
        else backend.write(slot, 0, elements);
      } catch (error) {
        if (!known && tensors.get(name)?.slot === slot) {
          tensors.delete(name);
          backend.remove(slot);
        }
        throw error;
      }
    },
    writePart(name, begin, data) {
      const { type, slot, bytes } = find(name);
      if (type.encoding !== "plain") fail("INVALID_ARGUMENT", `${name} is ${describeType(type)}; only plain tensors are written in parts`);
      expectArray(name, type, data);
      const width = bytesOf(type, []);
      expectRange(name, begin, begin + data.length, bytes / width);
      expectWritable(name);
      expectIdle("write");
      backend.write(slot, begin * width, data);
    },
    map(name, type, path, byteOffset) {
      expectNew(name);
      if (typeof path !== "string") fail("INVALID_ARGUMENT", `${name}: expected the path of a file, received ${typeof path}`);
      if (type.encoding === "rows")
        fail("INVALID_ARGUMENT", `${name} is ${describeType(type)}, made for one step; it is no part of a file`);
      if (!Number.isInteger(byteOffset) || byteOffset < 0)
        fail("INVALID_ARGUMENT", `${name}: a file is mapped from a whole byte ≥ 0 on, received ${byteOffset}`);
      expectIdle("map");
      const bytes = fixedBytes(name, type);
      tensors.set(name, { type, slot: backend.map(path, byteOffset, bytes), bytes, mapped: true });
    },
    read(name, begin = 0, end) {
      const { type, slot, bytes } = find(name);
      if (type.encoding !== "plain") fail("INVALID_ARGUMENT", `${name} is ${describeType(type)}; only plain tensors are read`);
      expectIdle("read");
      const width = bytesOf(type, []);
      const last = end ?? bytes / width;
      expectRange(name, begin, last, bytes / width);
      const into = arrayFor(type.dtype, last - begin);
      backend.read(slot, begin * width, into);
      return into;
    },
    async prefetch(name, { hugePages = false } = {}) {
      expectOpen();
      await backend.prefetch(find(name).slot, Boolean(hugePages));
    },
    readBytes(name, into) {
      const { slot, bytes } = find(name);
      expectIdle("read");
      if (into && into.length < bytes) fail("INVALID_ARGUMENT", `${name} has ${bytes} bytes, the buffer to read into ${into.length}`);
      const whole = into?.subarray(0, bytes) ?? new Uint8Array(bytes);
      backend.read(slot, 0, whole);
      return whole;
    },
    remove(name) {
      expectIdle("remove");
      backend.remove(find(name).slot);
      tensors.delete(name);
    },
    bytes() {
      expectOpen();
      return [...tensors.values()].reduce((total, tensor) => total + (tensor.mapped ? 0 : tensor.bytes), 0);
    },
    hugeBytes() {
      expectIdle("hugeBytes");
      const bytes = backend.hugeBytes();
      return bytes < 0 ? null : bytes;
    },
    async [Symbol.asyncDispose]() {
      if (disposed) return;
      disposed = true;
      await backend.idle();
      if (!backend.isClosed()) for (const { slot } of tensors.values()) backend.remove(slot);
      tensors.clear();
    },
  };
  return store;
}
