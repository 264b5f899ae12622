import{createRequire as __c}from'module';const require=__c(import.meta.url);
var __defProp = Object.defineProperty;
var __knownSymbol = (name, symbol) => (symbol = Symbol[name]) ? symbol : /* @__PURE__ */ Symbol.for("Symbol." + name);
var __typeError = (msg) => {
  throw TypeError(msg);
};
var __export = (target, all) => {
  for (var name in all)
    __defProp(target, name, { get: all[name], enumerable: true });
};
var __using = (stack, value, async) => {
  if (value != null) {
    if (typeof value !== "object" && typeof value !== "function") __typeError("Object expected");
    var dispose, inner2;
    if (async) dispose = value[__knownSymbol("asyncDispose")];
    if (dispose === void 0) {
      dispose = value[__knownSymbol("dispose")];
      if (async) inner2 = dispose;
    }
    if (typeof dispose !== "function") __typeError("Object not disposable");
    if (inner2) dispose = function() {
      try {
        inner2.call(this);
      } catch (e) {
        return Promise.reject(e);
      }
    };
    stack.push([async, dispose, value]);
  } else if (async) {
    stack.push([async]);
  }
  return value;
};
var __callDispose = (stack, error, hasError) => {
  var E = typeof SuppressedError === "function" ? SuppressedError : function(e, s, m, _) {
    return _ = Error(m), _.name = "SuppressedError", _.error = e, _.suppressed = s, _;
  };
  var fail2 = (e) => error = hasError ? new E(e, error, "An error was suppressed during disposal") : (hasError = true, e);
  var next = (it) => {
    while (it = stack.pop()) {
      try {
        var result = it[1] && it[1].call(it[2]);
        if (it[0]) return Promise.resolve(result).then(next, (e) => (fail2(e), next()));
      } catch (e) {
        fail2(e);
      }
    }
    if (hasError) throw error;
  };
  return next();
};

// packages/kernels/src/errors.ts
var marker = /* @__PURE__ */ Symbol.for("zaya.error");
var ZayaError = class extends Error {
  code;
  constructor(code, message, options) {
    super(message, options);
    this.name = "ZayaError";
    this.code = code;
    Object.defineProperty(this, marker, { value: true });
  }
};
function fail(code, message, cause) {
  throw new ZayaError(code, message, cause === void 0 ? void 0 : { cause });
}

// packages/kernels/src/types.ts
var bitsPerElement = { float32: 32, bfloat16: 16, float64: 64, int32: 32, int8: 8, int6: 6, int4: 4 };
function isQuantised({ dtype, encoding }) {
  return encoding === "panels" && (dtype === "int8" || dtype === "int6" || dtype === "int4");
}
function tensor(dtype, shape, encoding = "plain") {
  return { dtype, shape, encoding };
}
function plus(dimension, n) {
  return typeof dimension === "number" ? dimension + n : { ...dimension, plus: dimension.plus + n };
}
function maxOf(dimension) {
  return typeof dimension === "number" ? dimension : dimension.times * dimension.max + dimension.plus;
}
function sameDimension(a, b) {
  if (typeof a === "number" || typeof b === "number") return a === b;
  return a.name === b.name && a.times === b.times && a.plus === b.plus;
}
function sameShape(a, b) {
  return a.length === b.length && a.every((dimension, i) => sameDimension(dimension, b[i]));
}
function maxElements(type) {
  return type.shape.reduce((product2, dimension) => product2 * maxOf(dimension), 1);
}
function maxBytes(type) {
  return bytesOf(type, type.shape.map(maxOf));
}
function bytesOf(type, shape) {
  const bits = bitsPerElement[type.dtype];
  if (type.encoding === "plain") return shape.reduce((n, d) => n * d, bits / 8);
  const [columns = 1, rows = 1, ...outer] = shape.toReversed();
  const panels = outer.reduce((n, d) => n * d, 1) * Math.ceil(rows / 32);
  if (!isQuantised(type)) return panels * 32 * Math.ceil(columns / 2) * 2 * bits / 8;
  const groupBytes = 32 * 32 * bits / 8 + (type.dtype === "int8" ? 0 : 64);
  return panels * (Math.ceil(columns / 32) * groupBytes + Math.ceil(columns / 256) * 32 * 4);
}
function describeType(type) {
  return `${type.encoding === "plain" ? "" : `${type.encoding} `}${type.dtype} [${type.shape.map(describeDimension).join(", ")}]`;
}
function describeDimension(dimension) {
  if (typeof dimension === "number") return String(dimension);
  const { name, times, plus: offset } = dimension;
  return `${times === 1 ? "" : times}${name}${offset === 0 ? "" : `+${offset}`}`;
}

// packages/kernels/src/device.ts
import { availableParallelism } from "node:os";

// packages/kernels/src/store.ts
var arrays = {
  float32: Float32Array,
  float64: Float64Array,
  int32: Int32Array,
  bfloat16: Uint16Array,
  int8: Int8Array,
  int6: Uint8Array,
  int4: Uint8Array
};
function arrayFor(dtype, source) {
  return typeof source === "number" ? new arrays[dtype](source) : new arrays[dtype](source);
}
function expectArray(name, type, data) {
  if (!(data instanceof arrays[type.dtype])) {
    fail(
      "INVALID_ARGUMENT",
      `${name} is ${describeType(type)} and takes a ${arrays[type.dtype].name}, received ${data?.constructor?.name ?? typeof data}`
    );
  }
}
function openStore(backend) {
  const tensors = /* @__PURE__ */ new Map();
  const find = (name) => tensors.get(name) ?? fail("MISSING_TENSOR", `the store has no tensor ${name}`);
  const fixedBytes = (name, type) => {
    if (type.shape.some((dimension) => typeof dimension !== "number"))
      fail("INVALID_ARGUMENT", `${name}: a tensor of the store needs a fixed shape, received ${describeType(type)}`);
    return maxBytes(type);
  };
  const store = {
    names: () => [...tensors.keys()],
    has: (name) => tensors.has(name),
    typeOf: (name) => find(name).type,
    slotOf: (name) => find(name).slot,
    allocate(name, type) {
      if (tensors.has(name)) fail("INVALID_ARGUMENT", `the store has a tensor ${name} already; remove it first`);
      backend.expectIdle("allocate");
      const bytes = fixedBytes(name, type);
      tensors.set(name, { type, slot: backend.add(bytes), bytes, mapped: false });
    },
    async write(name, type, data) {
      const known = tensors.get(name);
      if (known && describeType(known.type) !== describeType(type))
        fail("INVALID_ARGUMENT", `${name} is ${describeType(known.type)}, cannot write ${describeType(type)}`);
      const elements2 = type.shape.reduce((n, dimension) => n * (typeof dimension === "number" ? dimension : 0), 1);
      if (data.length !== elements2)
        fail("SHAPE_MISMATCH", `${name}: expected ${elements2} elements for ${describeType(type)}, received ${data.length}`);
      if (!known) store.allocate(name, type);
      if (type.encoding === "panels") return backend.encode(store, name, type, data);
      expectArray(name, type, data);
      backend.expectIdle("write");
      backend.write(find(name).slot, 0, data);
    },
    writePart(name, begin, data) {
      const { type, slot } = find(name);
      if (type.encoding !== "plain") fail("INVALID_ARGUMENT", `${name} is ${describeType(type)}; only plain tensors are written in parts`);
      expectArray(name, type, data);
      backend.expectIdle("write");
      backend.write(slot, begin * bytesOf(type, []), data);
    },
    map(name, type, path, byteOffset) {
      if (tensors.has(name)) fail("INVALID_ARGUMENT", `the store has a tensor ${name} already; remove it first`);
      backend.expectIdle("map");
      const bytes = fixedBytes(name, type);
      tensors.set(name, { type, slot: backend.map(path, byteOffset, bytes), bytes, mapped: true });
    },
    read(name, begin = 0, end) {
      const { type, slot, bytes } = find(name);
      if (type.encoding !== "plain") fail("INVALID_ARGUMENT", `${name} is ${describeType(type)}; only plain tensors are read`);
      backend.expectIdle("read");
      const width = bytesOf(type, []);
      const into = arrayFor(type.dtype, (end ?? bytes / width) - begin);
      backend.read(slot, begin * width, into);
      return into;
    },
    remove(name) {
      backend.expectIdle("remove");
      backend.remove(find(name).slot);
      tensors.delete(name);
    },
    bytes: () => [...tensors.values()].reduce((total, tensor2) => total + (tensor2.mapped ? 0 : tensor2.bytes), 0),
    async [Symbol.asyncDispose]() {
      for (const name of [...tensors.keys()]) store.remove(name);
    }
  };
  return store;
}

// packages/kernels/src/executable.ts
function bindSizes(sizes, inputs, { inputs: data = {}, sizes: given = {} }) {
  const bound = new Map(Object.entries(given).filter(([name]) => sizes.some((size2) => size2.name === name)));
  for (const value of inputs) {
    const array = data[value.node.name] ?? fail("MISSING_INPUT", `input ${value.node.name}, ${describeType(value.type)}, is missing`);
    expectArray(`input ${value.node.name}`, value.type, array);
    const solved = solveSize(value.type, array.length, bound);
    if (solved && !bound.has(solved.name)) bound.set(solved.name, solved.value);
  }
  for (const { name, max } of sizes) {
    const value = bound.get(name);
    if (value === void 0) fail("MISSING_INPUT", `size ${name} does not follow from the inputs; pass it in \`sizes\``);
    if (!Number.isInteger(value) || value < 0 || value > max)
      fail("INVALID_ARGUMENT", `size ${name} is ${value}; it was declared to be a whole number from 0 to ${max}`);
  }
  for (const value of inputs) {
    const elements2 = value.type.shape.reduce(
      (n, d) => n * (typeof d === "number" ? d : d.times * (bound.get(d.name) ?? 0) + d.plus),
      1
    );
    const length = data[value.node.name]?.length;
    if (length !== elements2)
      fail("SHAPE_MISMATCH", `input ${value.node.name} is ${describeType(value.type)}: expected ${elements2} elements, received ${length}`);
  }
  return bound;
}
function solveSize(type, length, bound) {
  let known = 1;
  let unknown = null;
  for (const dimension of type.shape) {
    const value = typeof dimension === "number" ? dimension : bound.get(dimension.name);
    if (typeof dimension === "number") known *= dimension;
    else if (value !== void 0) known *= dimension.times * value + dimension.plus;
    else if (unknown) return null;
    else unknown = dimension;
  }
  if (!unknown || known === 0) return null;
  return { name: unknown.name, value: (length / known - unknown.plus) / unknown.times };
}
function orderInputs(graph, inputs, data) {
  for (const name of Object.keys(data)) {
    if (!graph.nodes.some((node) => node.kind === "input" && node.name === name))
      fail("INVALID_ARGUMENT", `the graph has no input ${name}`);
  }
  return inputs.map((value) => data[value.node.name]);
}

// packages/kernels/src/graph.ts
function createGraph() {
  const nodes = [];
  const sources = /* @__PURE__ */ new Map();
  const outputs = /* @__PURE__ */ new Map();
  const assigns = /* @__PURE__ */ new Map();
  function source(kind, name, type) {
    const key = `${kind} ${name}`;
    const known = sources.get(key);
    if (known) return known;
    const node = addNode(graph, { kind, name, operation: null, inputs: [], attributes: {} }, [type]);
    const value = node.outputs[0];
    sources.set(key, value);
    return value;
  }
  function own(value, what) {
    if (value.graph !== graph) fail("INVALID_ARGUMENT", `${what} belongs to another graph`);
  }
  const graph = {
    nodes,
    outputs,
    assigns,
    input: (name, type) => source("input", name, type),
    read: (name, type) => source("read", name, type),
    assign(name, value) {
      own(value, `the value assigned to ${name}`);
      if (assigns.has(name)) fail("INVALID_ARGUMENT", `${name} is assigned twice in one graph`);
      assigns.set(name, value);
    },
    output(name, value) {
      own(value, `output ${name}`);
      outputs.set(name, value);
    }
  };
  return graph;
}
function apply(operation, inputs, attributes2 = {}) {
  const first = inputs.find((value) => value !== null);
  if (!first) fail("INVALID_ARGUMENT", `[${operation.name}] needs at least one input`);
  for (const value of inputs) {
    if (value && value.graph !== first.graph) fail("INVALID_ARGUMENT", `[${operation.name}] got inputs of two graphs`);
  }
  const types = operation.infer(
    inputs.map((value) => value?.type ?? null),
    attributes2
  );
  return addNode(first.graph, { kind: "operation", name: operation.name, operation, inputs, attributes: attributes2 }, types).outputs;
}
function addNode(graph, fields, types) {
  const outputs = [];
  const node = { ...fields, id: graph.nodes.length, outputs };
  types.forEach((type, index) => {
    outputs.push({ graph, node, index, type });
  });
  graph.nodes.push(node);
  return node;
}

// packages/kernels/src/layout.ts
var alignment = 64;
var always = Number.MAX_SAFE_INTEGER;
function layOut(graph, { steps, updates, copies }, workspaceBytes, guardBytes) {
  const lastUse = lastUses(graph, { steps, copies });
  const stored = new Map(updates);
  const buffers = /* @__PURE__ */ new Map();
  const all = [];
  const newBuffer = (bytes, first, last) => {
    const buffer = { bytes: bytes + guardBytes, first, last, offset: 0 };
    all.push(buffer);
    return buffer;
  };
  const position = new Map(steps.map((node, i) => [node, i]));
  for (const node of graph.nodes) {
    const step = position.get(node);
    for (const value of node.outputs) {
      const source = node.operation?.view ? node.inputs[0] : null;
      if (node.kind === "read") stored.set(value, node.name);
      else if (source && stored.has(source)) stored.set(value, stored.get(source));
      else if (source && buffers.has(source)) buffers.set(value, buffers.get(source));
      else if (source || stored.has(value) || node.kind === "operation" && step === void 0) continue;
      else if (node.kind === "input" && !lastUse.has(value)) continue;
      else buffers.set(value, newBuffer(maxBytes(value.type), step ?? -1, lastUse.get(value) ?? step ?? -1));
    }
  }
  reuseInPlace();
  const workspaces = workspaceBytes.map((bytes, i) => bytes > 0 ? newBuffer(bytes, i, i) : null);
  const arenaBytes = placeBuffers(all.filter((buffer) => buffer.bytes > 0));
  const places = /* @__PURE__ */ new Map();
  for (const [value, name] of stored) places.set(value, { kind: "store", name });
  for (const [value, buffer] of buffers) places.set(value, { kind: "arena", offset: buffer.offset });
  return { places, workspaces: workspaces.map((buffer) => buffer?.offset ?? 0), arenaBytes };
  function reuseInPlace() {
    steps.forEach((node, step) => {
      for (const [output, input] of node.operation?.inPlace ?? []) {
        const to = node.outputs[output];
        const from = node.inputs[input];
        const target = to && buffers.get(to);
        const source = from && buffers.get(from);
        if (!target || !source || target === source || source.last !== step || target.first !== step) continue;
        if (node.inputs.filter((other) => other && buffers.get(other) === source).length > 1) continue;
        if (!sameShape(to.type.shape, from.type.shape) || to.type.dtype !== from.type.dtype || to.type.encoding !== from.type.encoding)
          continue;
        source.last = target.last;
        for (const [value, buffer] of buffers) if (buffer === target) buffers.set(value, source);
        all.splice(all.indexOf(target), 1);
      }
    });
  }
}
function lastUses(graph, { steps, copies }) {
  const last = /* @__PURE__ */ new Map();
  const use = (value, step) => {
    for (let at = value; ; at = at.node.inputs[0]) {
      last.set(at, Math.max(last.get(at) ?? -1, step));
      if (!at.node.operation?.view) return;
    }
  };
  steps.forEach((node, step) => {
    for (const input of node.inputs) if (input) use(input, step);
  });
  for (const value of graph.outputs.values()) use(value, always);
  for (const [value] of copies) use(value, always);
  return last;
}
function placeBuffers(buffers) {
  const placed = [];
  let total = 0;
  for (const buffer of [...buffers].sort((a, b) => b.bytes - a.bytes || a.first - b.first)) {
    const size2 = Math.ceil(buffer.bytes / alignment) * alignment;
    let offset = 0;
    for (const other of placed) {
      if (other.first > buffer.last || other.last < buffer.first) continue;
      if (other.offset >= offset + size2) break;
      offset = Math.max(offset, other.offset + Math.ceil(other.bytes / alignment) * alignment);
    }
    buffer.offset = offset;
    total = Math.max(total, offset + size2);
    const at = placed.findIndex((other) => other.offset > offset);
    placed.splice(at < 0 ? placed.length : at, 0, buffer);
  }
  return total;
}

// packages/kernels/src/lower.ts
function lower(graph, hasKernel) {
  const lowered = createGraph();
  const values = /* @__PURE__ */ new Map();
  const mapped = (value) => value ? values.get(value) : null;
  const emit = (operation, inputs, attributes2) => {
    if (operation.view || hasKernel(operation.name)) return apply(operation, inputs, attributes2);
    if (!operation.decompose) fail("UNSUPPORTED_OPERATION", `[${operation.name}] has no kernel on this device and no decomposition`);
    const scratch = createGraph();
    const stand = /* @__PURE__ */ new Map();
    const arguments_ = inputs.map((input, i) => {
      if (!input) return null;
      const placeholder = scratch.input(`${i}`, input.type);
      stand.set(placeholder, input);
      return placeholder;
    });
    const results = operation.decompose(arguments_, attributes2);
    for (const node of scratch.nodes) {
      if (node.operation === null) continue;
      const outputs = emit(
        node.operation,
        node.inputs.map((input) => input ? stand.get(input) : null),
        node.attributes
      );
      node.outputs.forEach((output, i) => {
        stand.set(output, outputs[i]);
      });
    }
    return results.map((result) => stand.get(result));
  };
  for (const node of graph.nodes) {
    if (node.operation === null) {
      const source = node.outputs[0];
      values.set(source, node.kind === "input" ? lowered.input(node.name, source.type) : lowered.read(node.name, source.type));
      continue;
    }
    const outputs = emit(node.operation, node.inputs.map(mapped), node.attributes);
    node.outputs.forEach((output, i) => {
      values.set(output, outputs[i]);
    });
  }
  for (const [name, value] of graph.outputs) lowered.output(name, mapped(value));
  for (const [name, value] of graph.assigns) lowered.assign(name, mapped(value));
  return lowered;
}

// packages/kernels/src/native.ts
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";

// packages/kernels/src/plan.ts
var planVersion = 1;
var dtypeNumbers = { float32: 0, bfloat16: 1, float64: 2, int32: 3, int8: 4, int6: 5, int4: 6 };
function writePlan(source, layout, workspaceBytes, guardBytes) {
  const { graph, schedule: schedule2, sizes, operations, slotOf } = source;
  const sizeIndex = new Map(sizes.map((size2, i) => [size2.name, i]));
  const tensors = [];
  const index = /* @__PURE__ */ new Map();
  const tensorOf = (value) => {
    const known = index.get(value);
    if (known !== void 0) return known;
    const place = layout?.places.get(value);
    addTensor(value.type, place?.kind === "store" ? slotOf(place.name) : null, place?.kind === "arena" ? place.offset : 0);
    index.set(value, index.size);
    return index.size - 1;
  };
  let extra = 0;
  const addTensor = (type, slot, offset) => {
    const shape = type.shape.flatMap((dimension) => dimensionRule(dimension, sizeIndex));
    tensors.push(
      dtypeNumbers[type.dtype],
      type.encoding === "panels" ? 1 : 0,
      slot === null ? 0 : 1,
      slot ?? offset,
      maxBytes(type),
      type.shape.length,
      ...shape
    );
  };
  const steps = schedule2.steps.flatMap((node, i) => {
    const attributes2 = (node.operation?.attributes ?? []).map((name) => node.attributes[name] ?? 0);
    return [
      operations.get(node.name) ?? -1,
      i >= schedule2.tail ? 1 : 0,
      layout?.workspaces[i] ?? 0,
      workspaceBytes[i] ?? 0,
      node.inputs.length,
      ...node.inputs.map((input) => input ? tensorOf(input) : -1),
      node.outputs.length,
      ...node.outputs.map(tensorOf),
      attributes2.length,
      ...attributes2
    ];
  });
  const inputs = inputValues(graph, layout).map(tensorOf);
  const outputs = [...graph.outputs.values()].map(tensorOf);
  const copies = schedule2.copies.map(([value]) => tensorOf(value));
  const targets2 = schedule2.copies.map(([value, name]) => {
    addTensor(value.type, slotOf(name), 0);
    return index.size + extra++;
  });
  const pairs = copies.flatMap((from, i) => [from, targets2[i]]);
  const header = [planVersion, sizes.length, index.size + extra, schedule2.steps.length, inputs.length, outputs.length, copies.length];
  return Float64Array.from([...header, layout?.arenaBytes ?? 0, guardBytes, ...tensors, ...steps, ...inputs, ...outputs, ...pairs]);
}
function inputValues(graph, layout) {
  return graph.nodes.filter((node) => node.kind === "input").map((node) => node.outputs[0]).filter((value) => layout === null || layout.places.has(value));
}
function sizesOf(graph) {
  const found = /* @__PURE__ */ new Map();
  for (const node of graph.nodes) {
    for (const { type } of node.outputs) {
      for (const dimension of type.shape) {
        if (typeof dimension !== "number" && !found.has(dimension.name)) found.set(dimension.name, { ...dimension, times: 1, plus: 0 });
      }
    }
  }
  return [...found.values()];
}
function dimensionRule(dimension, sizeIndex) {
  if (typeof dimension === "number") return [-1, 0, dimension];
  return [sizeIndex.get(dimension.name) ?? -1, dimension.times, dimension.plus];
}

// packages/kernels/src/native.ts
var loaded;
function loadAddon() {
  if (loaded) return loaded;
  const require2 = createRequire(import.meta.url);
  const platform = `@zaya/kernels-${process.platform}-${process.arch}${process.platform === "linux" ? "-gnu" : ""}`;
  const places = [`${platform}/zaya.node`, fileURLToPath(new URL("../../../native/build/zaya.node", import.meta.url))];
  const reasons = [];
  for (const place of places) {
    let addon;
    try {
      addon = require2(place);
    } catch (cause) {
      reasons.push(`${place}: ${cause instanceof Error ? cause.message.split("\n")[0] : String(cause)}`);
      continue;
    }
    if (addon.planVersion === planVersion) {
      loaded = addon;
      return addon;
    }
    reasons.push(`${place}: reads plans of version ${addon.planVersion}, this package writes ${planVersion}`);
  }
  return fail(
    "NATIVE_UNAVAILABLE",
    `the native addon could not be loaded. Tried:
${reasons.map((reason) => `  ${reason}`).join("\n")}
Run: npm install ${platform} (or, in a clone of the repository, npm run build:native)`
  );
}

// packages/kernels/src/check.ts
function expectShape(operation, what, received, expected) {
  if (!received) throw new ZayaError("SHAPE_MISMATCH", `[${operation}] expected ${what} of shape ${show(expected)}, received nothing`);
  if (!sameShape(received.shape, expected)) {
    throw new ZayaError("SHAPE_MISMATCH", `[${operation}] expected ${what} of shape ${show(expected)}, received ${show(received.shape)}`);
  }
  return received;
}
function expectRank(operation, what, received, rank, dtypes) {
  if (received?.shape.length !== rank) {
    throw new ZayaError(
      "SHAPE_MISMATCH",
      `[${operation}] expected ${what} of ${rank} dimensions, received ${received ? show(received.shape) : "nothing"}`
    );
  }
  if (dtypes && !dtypes.includes(received.dtype)) {
    throw new ZayaError("SHAPE_MISMATCH", `[${operation}] expected ${what} of type ${dtypes.join(" or ")}, received ${received.dtype}`);
  }
  return received;
}
function expectFixed(operation, what, dimension) {
  if (typeof dimension !== "number")
    throw new ZayaError("SHAPE_MISMATCH", `[${operation}] expected ${what} to be a fixed number, received ${dimension?.name ?? "nothing"}`);
  return dimension;
}
function computed(type, shape = type.shape) {
  return tensor(type.dtype === "float64" ? "float64" : "float32", shape);
}
function show(shape) {
  return `[${shape.map((d) => typeof d === "number" ? d : d.name).join(", ")}]`;
}

// packages/kernels/src/ops/encode.ts
var targets = ["float32", "bfloat16", "float64", "int8", "int6", "int4"];
var encodeOperation = {
  name: "encode",
  attributes: ["dtype"],
  infer: ([w, importance], { dtype }) => {
    const { shape, encoding } = w;
    if (encoding !== "plain" || shape.length < 2)
      fail("SHAPE_MISMATCH", `[encode] expected a plain tensor of at least 2 dimensions, received ${encoding} of ${shape.length}`);
    if (importance) expectShape("encode", "importance", importance, [...shape.slice(0, -2), shape.at(-1)]);
    return [tensor(targets[dtype ?? 0], shape, "panels")];
  }
};
function encode(w, dtype, importance = null) {
  return apply(encodeOperation, [w, importance], { dtype: targets.indexOf(dtype) })[0];
}

// packages/kernels/src/schedule.ts
function schedule(graph) {
  const live = liveNodes(graph);
  const order = graph.nodes.filter((node) => live.has(node) && node.operation !== null);
  const consumers = /* @__PURE__ */ new Map();
  for (const node of order) {
    for (const input of node.inputs) {
      if (!input) continue;
      const list = consumers.get(input);
      if (list) list.push(node);
      else consumers.set(input, [node]);
    }
  }
  const returned = new Set(graph.outputs.values());
  const inTail = /* @__PURE__ */ new Set();
  for (const value of graph.assigns.values()) {
    const unread = value.node.outputs.every((output) => !consumers.has(output) && !returned.has(output));
    if (unread && updatePair(graph, value)) inTail.add(value.node);
  }
  const steps = [...order.filter((node) => !inTail.has(node)), ...order.filter((node) => inTail.has(node))].filter(
    (node) => !node.operation?.view
  );
  const position = new Map(steps.map((node, i) => [node, i]));
  const updates = /* @__PURE__ */ new Map();
  const copies = [];
  for (const [name, value] of graph.assigns) {
    if (value.node.operation === null)
      fail("INVALID_ARGUMENT", `${name} is assigned a value that was only read or passed in; assign a computed one`);
    const old = updatePair(graph, value);
    const at = position.get(value.node) ?? -1;
    const readEarlier = old && readers(old, consumers).every((node) => node === value.node || (position.get(node) ?? -1) < at);
    if (old && readEarlier && !returned.has(old)) updates.set(value, name);
    else copies.push([value, name]);
  }
  return {
    steps,
    tail: order.length === 0 ? 0 : steps.findIndex((node) => inTail.has(node)) < 0 ? steps.length : steps.length - inTail.size,
    updates,
    copies
  };
}
function updatePair(graph, value) {
  for (const [output, input] of value.node.operation?.inPlace ?? []) {
    const old = value.node.inputs[input];
    if (output !== value.index || old?.node.kind !== "read" || graph.assigns.get(old.node.name) !== value) continue;
    if (!sameShape(old.type.shape, value.type.shape) || old.type.dtype !== value.type.dtype || old.type.encoding !== value.type.encoding) {
      fail("SHAPE_MISMATCH", `${old.node.name} is ${describeType(old.type)} and is assigned ${describeType(value.type)}`);
    }
    return old;
  }
  return null;
}
function readers(value, consumers) {
  return (consumers.get(value) ?? []).flatMap((node) => node.operation?.view ? readers(node.outputs[0], consumers) : [node]);
}
function liveNodes(graph) {
  const live = /* @__PURE__ */ new Set();
  const pending = [...graph.outputs.values(), ...graph.assigns.values()].map((value) => value.node);
  for (let node = pending.pop(); node; node = pending.pop()) {
    if (live.has(node)) continue;
    live.add(node);
    for (const input of node.inputs) if (input) pending.push(input.node);
  }
  return live;
}

// packages/kernels/src/device.ts
async function openDevice(kind = "cpu", options = {}) {
  const threads = options.threads ?? availableParallelism();
  if (!Number.isInteger(threads) || threads < 1) fail("INVALID_ARGUMENT", `threads must be a whole number \u2265 1, received ${threads}`);
  return kind === "null" ? openNullDevice(threads) : openCpuDevice(threads, options);
}
function openCpuDevice(threads, { isa = process.env.ZAYA_ISA, guard = false }) {
  const addon = loadAddon();
  const native = callNative(() => new addon.Device(threads, isa ?? ""), "INVALID_ARGUMENT");
  const operations = new Map(native.operations().map((name, i) => [name, i]));
  const guardBytes = guard ? 64 : 0;
  let last = Promise.resolve();
  let active = 0;
  let disposed = false;
  const expectOpen = () => {
    if (disposed) fail("DISPOSED", "the device was disposed");
  };
  function enqueue(job) {
    const result = active++ === 0 ? job() : last.then(job);
    const settled = result.then(
      () => {
      },
      () => {
      }
    );
    last = settled.then(() => {
      active--;
    });
    return result.finally(() => last);
  }
  const backend = {
    add: (bytes) => callNative(() => native.add(bytes)),
    map: (path, offset, bytes) => callNative(() => native.map(path, offset, bytes)),
    remove: (slot) => {
      if (!disposed) native.remove(slot);
    },
    write: (slot, offset, data) => callNative(() => native.write(slot, offset, data)),
    read: (slot, offset, into) => callNative(() => native.read(slot, offset, into)),
    async encode(store, name, type, data) {
      var _stack = [];
      try {
        const graph = createGraph();
        const source = data instanceof Float32Array ? "float32" : data instanceof Float64Array ? "float64" : "bfloat16";
        graph.assign(name, encode(graph.input("plain", tensor(source, type.shape)), type.dtype));
        const executable = __using(_stack, device2.compile(graph, store), true);
        await executable.run({ inputs: { plain: data } });
      } catch (_) {
        var _error = _, _hasError = true;
      } finally {
        var _promise = __callDispose(_stack, _error, _hasError);
        _promise && await _promise;
      }
    },
    expectIdle(what) {
      expectOpen();
      if (active > 0) fail("INVALID_ARGUMENT", `cannot ${what} a tensor of the store while a run is in progress; await it first`);
    }
  };
  const device2 = {
    kind: "cpu",
    isa: native.isa,
    threads,
    memory: () => addon.memory(),
    resetPeak: () => addon.resetPeak(),
    createStore: () => openStore(backend),
    measure(what, milliseconds = 20) {
      expectOpen();
      return enqueue(async () => callNative(() => native.measure(what, milliseconds)));
    },
    compile(original, store) {
      expectOpen();
      const graph = lower(original, (name) => operations.has(name));
      const plan = schedule(graph);
      checkStore(graph, store);
      const sizes = sizesOf(graph);
      const slotOf = (name) => store.slotOf(name);
      const source = { graph, schedule: plan, sizes, operations, slotOf };
      const maxima = Float64Array.from(sizes, (size2) => size2.max);
      const zeros = plan.steps.map(() => 0);
      const workspaceBytes = [...callNative(() => native.workspaces(writePlan(source, null, zeros, 0), maxima))];
      const layout = layOut(graph, plan, workspaceBytes, guardBytes);
      const id = callNative(() => native.compile(writePlan(source, layout, workspaceBytes, guardBytes)));
      const inputs = inputValues(graph, layout);
      const outputs = [...graph.outputs];
      let dropped = false;
      async function start(options, timing) {
        if (dropped || disposed) fail("DISPOSED", "the executable was disposed");
        const { signal, inputs: data = {} } = options;
        signal?.throwIfAborted();
        const bound = bindSizes(sizes, inputs, options);
        const arrays2 = orderInputs(original, inputs, data);
        const values = Float64Array.from(sizes, (size2) => bound.get(size2.name));
        const abort = () => native.abort();
        const running = callNative(() => native.run(id, values, arrays2, timing));
        signal?.addEventListener("abort", abort, { once: true });
        const buffers = await running.catch((cause) => fail("KERNEL_FAILED", cause.message)).finally(() => signal?.removeEventListener("abort", abort));
        if (buffers === null) throw signal?.reason ?? new ZayaError("DISPOSED", "the run was stopped");
        return Object.fromEntries(outputs.map(([name, value], i) => [name, arrayFor(value.type.dtype, buffers[i])]));
      }
      return {
        arenaBytes: layout.arenaBytes,
        steps: plan.steps.map((node) => node.name),
        run: (options = {}) => enqueue(() => start(options, false)),
        profile: (options = {}) => enqueue(async () => {
          const results = await start(options, true);
          return { outputs: results, nanoseconds: [...native.times(id)] };
        }),
        async [Symbol.asyncDispose]() {
          if (dropped) return;
          dropped = true;
          await last;
          if (!disposed) native.drop(id);
        }
      };
    },
    async [Symbol.asyncDispose]() {
      if (disposed) return;
      await last;
      disposed = true;
      native.close();
    }
  };
  return device2;
}
function openNullDevice(threads) {
  let next = 0;
  let held = 0;
  const unavailable = () => fail("INVALID_ARGUMENT", "the null device holds no data and runs nothing; open the cpu");
  const sizesOfSlots = /* @__PURE__ */ new Map();
  const backend = {
    add(bytes) {
      held += bytes;
      sizesOfSlots.set(next, bytes);
      return next++;
    },
    map: () => next++,
    remove(slot) {
      held -= sizesOfSlots.get(slot) ?? 0;
      sizesOfSlots.delete(slot);
    },
    write: unavailable,
    read: unavailable,
    encode: unavailable,
    expectIdle: () => {
    }
  };
  return {
    kind: "null",
    isa: "none",
    threads,
    createStore: () => openStore(backend),
    memory: () => ({ currentBytes: held, peakBytes: held }),
    resetPeak: () => {
    },
    measure: unavailable,
    compile(graph, store) {
      const lowered = lower(graph, () => true);
      const plan = schedule(lowered);
      checkStore(lowered, store);
      const layout = layOut(lowered, plan, [], 0);
      return {
        arenaBytes: layout.arenaBytes,
        steps: plan.steps.map((node) => node.name),
        run: async () => unavailable(),
        profile: async () => unavailable(),
        async [Symbol.asyncDispose]() {
        }
      };
    },
    async [Symbol.asyncDispose]() {
    }
  };
}
function checkStore(graph, store) {
  const check = (name, value) => {
    if (!store?.has(name))
      fail(
        "MISSING_TENSOR",
        `the graph uses tensor ${name} of the store, ${describeType(value.type)}, which ${store ? "is not there" : "was not given to compile"}`
      );
    const type = store.typeOf(name);
    if (describeType(type) !== describeType(value.type))
      fail("SHAPE_MISMATCH", `tensor ${name} of the store is ${describeType(type)}; the graph expects ${describeType(value.type)}`);
  };
  for (const node of graph.nodes) if (node.kind === "read") check(node.name, node.outputs[0]);
  for (const [name, value] of graph.assigns) check(name, value);
}
function callNative(call, code = "KERNEL_FAILED") {
  try {
    return call();
  } catch (cause) {
    return fail(code, cause instanceof Error ? cause.message : String(cause), cause);
  }
}

// packages/kernels/src/activation.ts
function expectActivation(operation, what, received) {
  if (received?.encoding !== "plain" || received.dtype !== "float32" && received.dtype !== "float64" || received.shape.length === 0) {
    throw new ZayaError(
      "SHAPE_MISMATCH",
      `[${operation}] expected ${what} to be plain float32 or float64, received ${received ? describeType(received) : "nothing"}`
    );
  }
  return received;
}
function elements(shape) {
  return shape ? shape.reduce((product2, n) => product2 * n, 1) : 0;
}

// packages/kernels/src/ops/add.ts
var addOperation = {
  name: "add",
  infer: ([a, b]) => {
    const x = expectActivation("add", "a", a);
    expectShape("add", "b", b, x.shape);
    return [x];
  },
  gradient: ({ gradients: [dy] }) => [dy ?? null, dy ?? null],
  flops: ({ outputs: [y] }) => elements(y),
  inPlace: [
    [0, 0],
    [0, 1]
  ]
};
function add(a, b) {
  return apply(addOperation, [a, b])[0];
}

// packages/kernels/src/ops/fill.ts
var fillOperation = {
  name: "fill",
  attributes: ["value"],
  infer: ([like]) => [like],
  gradient: () => [null]
};
function fill(like, value) {
  return apply(fillOperation, [like], { value })[0];
}

// packages/kernels/src/ops/index.ts
var ops_exports = {};
__export(ops_exports, {
  adamw: () => adamw,
  add: () => add,
  attention: () => attention,
  balanceGrad: () => balanceGrad,
  carryState: () => carryState,
  cast: () => cast,
  ccaConv: () => ccaConv,
  ccaQk: () => ccaQk,
  clipScale: () => clipScale,
  columnSum: () => columnSum,
  combine: () => combine,
  concat: () => concat,
  embedding: () => embedding,
  encode: () => encode,
  expectGroups: () => expectGroups,
  expertSort: () => expertSort,
  fill: () => fill,
  gatherRows: () => gatherRows,
  gelu: () => gelu,
  groupedLinear: () => groupedLinear,
  kvAppend: () => kvAppend,
  linear: () => linear,
  linearCrossEntropy: () => linearCrossEntropy,
  multiply: () => multiply,
  muon: () => muon,
  pagedAttention: () => pagedAttention,
  reshape: () => reshape,
  residualMerge: () => residualMerge,
  residualRmsNorm: () => residualRmsNorm,
  rmsNorm: () => rmsNorm,
  rope: () => rope,
  scale: () => scale,
  scatterRows: () => scatterRows,
  selectExpert: () => selectExpert,
  slice: () => slice,
  softmax: () => softmax,
  sum: () => sum,
  sumOfSquares: () => sumOfSquares,
  swiglu: () => swiglu,
  valueDelay: () => valueDelay
});

// packages/kernels/src/ops/adamw.ts
var adamwOperation = {
  name: "adamw",
  infer: ([p, g, m, v, factor, hyper]) => {
    const type = expectActivation("adamw", "p", p);
    for (const [name, other] of [
      ["g", g],
      ["m", m],
      ["v", v]
    ]) {
      expectShape("adamw", name, other, type.shape);
      expectActivation("adamw", name, other);
    }
    expectShape("adamw", "scale", factor, [1]);
    expectShape("adamw", "hyper", hyper, [6]);
    return [type, type, type];
  },
  flops: ({ inputs: [p] }) => 14 * elements(p),
  inPlace: [
    [0, 0],
    [1, 2],
    [2, 3]
  ]
};
function adamw(p, g, m, v, scale2, hyper) {
  const [nextP, nextM, nextV] = apply(adamwOperation, [p, g, m, v, scale2, hyper]);
  return { p: nextP, m: nextM, v: nextV };
}

// packages/kernels/src/ops/attention.ts
var attentionOperation = {
  name: "attention",
  attributes: ["scale", "window"],
  infer: ([q, k, v, cuSeqlens]) => {
    const type = expectHeads("attention", q, k);
    expectShape("attention", "v", v, k?.shape ?? []);
    expectRank("attention", "cu_seqlens", cuSeqlens, 1, ["int32"]);
    return [type, { ...type, shape: type.shape.slice(0, 2) }];
  },
  gradient: ({ node, inputs, outputs: [o, lse], gradients: [dO, dLse] }) => {
    if (dLse) throw new ZayaError("UNSUPPORTED_OPERATION", "[attention] has no gradient through lse; let the loss use o only");
    const [q, k, v, cuSeqlens] = inputs;
    if (!dO || !q || !k || !v || !cuSeqlens || !o || !lse) return [null, null, null, null];
    return [...apply(attentionGradOperation, [dO, q, k, v, o, lse, cuSeqlens], node.attributes), null];
  },
  flops: (shapes, { window }) => 4 * visiblePairs(shapes.inputs[0], shapes.inputs[3], window) * headElements(shapes, 0)
};
var attentionGradOperation = {
  name: "attention_grad",
  attributes: ["scale", "window"],
  infer: ([dO, q, k, v, o, lse]) => {
    const type = expectHeads("attention_grad", q, k);
    expectShape("attention_grad", "do", dO, type.shape);
    expectShape("attention_grad", "o", o, type.shape);
    expectShape("attention_grad", "lse", lse, type.shape.slice(0, 2));
    const key = expectShape("attention_grad", "v", v, k?.shape ?? []);
    return [type, key, key];
  },
  flops: (shapes, { window }) => 10 * visiblePairs(shapes.inputs[1], shapes.inputs[6], window) * headElements(shapes, 1)
};
function expectHeads(operation, q, k) {
  const type = expectRank(operation, "q", expectActivation(operation, "q", q), 3);
  const [tokens = 0, , head = 0] = type.shape;
  const key = expectRank(operation, "k", k, 3, [type.dtype]);
  expectShape(operation, "k", key, [tokens, key.shape[1] ?? 0, head]);
  expectGroups(operation, type, key);
  return type;
}
function expectGroups(operation, q, k) {
  const heads = expectFixed(operation, "the number of query heads", q.shape[1]);
  const keyHeads = expectFixed(operation, "the number of key heads", k.shape[1]);
  expectFixed(operation, "the head size", q.shape[2]);
  if (keyHeads < 1 || heads % keyHeads !== 0) {
    throw new ZayaError("SHAPE_MISMATCH", `[${operation}] expected key heads to divide the ${heads} query heads, received ${keyHeads}`);
  }
}
function visiblePairs(q, cuSeqlens, window = 0) {
  const tokens = q?.[0] ?? 0;
  const length = tokens / Math.max(1, (cuSeqlens?.[0] ?? 2) - 1);
  const full = (length + 1) / 2;
  return tokens * (window > 0 && window < length ? window - window * (window - 1) / (2 * length) : full);
}
function headElements({ inputs }, query) {
  const [, heads = 0, head = 0] = inputs[query] ?? [];
  return heads * head;
}
function attention(q, k, v, cuSeqlens, {
  scale: scale2 = 1 / Math.sqrt(expectFixed("attention", "the head size", q.type.shape[2])),
  window = 0
} = {}) {
  const [o, lse] = apply(attentionOperation, [q, k, v, cuSeqlens], { scale: scale2, window });
  return { o, lse };
}

// packages/kernels/src/ops/balance_grad.ts
var balanceGradOperation = {
  name: "balance_grad",
  infer: ([counts]) => [expectRank("balance_grad", "counts", expectActivation("balance_grad", "counts", counts), 1)]
};
function balanceGrad(counts) {
  return apply(balanceGradOperation, [counts])[0];
}

// packages/kernels/src/ops/cca_conv.ts
var ccaConvOperation = {
  name: "cca_conv",
  infer: ([z, depthwiseW, depthwiseB, groupedW, groupedB, cuSeqlens, state, slots, cached]) => {
    const type = expectRank("cca_conv", "z", expectActivation("cca_conv", "z", z), 2);
    const channels = expectFixed("cca_conv", "channels of z", type.shape[1]);
    const width = expectFixed("cca_conv", "channels of a group", expectRank("cca_conv", "grouped_w", groupedW, 3).shape[1]);
    if (width < 1 || channels % width !== 0)
      throw new ZayaError("SHAPE_MISMATCH", `[cca_conv] groups of ${width} do not divide ${channels} channels`);
    expectShape("cca_conv", "depthwise_w", depthwiseW, [channels, 1, 2]);
    expectShape("cca_conv", "depthwise_b", depthwiseB, [channels]);
    expectShape("cca_conv", "grouped_w", groupedW, [channels, width, 2]);
    expectShape("cca_conv", "grouped_b", groupedB, [channels]);
    expectRank("cca_conv", "cu_seqlens", cuSeqlens, 1, ["int32"]);
    if (state) expectState("cca_conv", type, cuSeqlens, [state, slots, cached], [2, channels]);
    return [type];
  },
  gradient: ({ inputs, gradients: [dout] }) => {
    const [z, depthwiseW, depthwiseB, groupedW, , cuSeqlens, state] = inputs;
    if (state) throw new ZayaError("UNSUPPORTED_OPERATION", "[cca_conv] has no gradient through carried state; train on whole sequences");
    if (!z || !dout) return inputs.map(() => null);
    const outputs = apply(ccaConvGradOperation, [dout, z, depthwiseW ?? null, depthwiseB ?? null, groupedW ?? null, cuSeqlens ?? null]);
    return [...outputs, ...inputs.slice(5).map(() => null)];
  },
  flops: ({ inputs: [z, , , groupedW] }) => elements(z) * (4 * (groupedW?.[1] ?? 0) + 5)
};
var ccaConvGradOperation = {
  name: "cca_conv_grad",
  infer: ([dout, z, depthwiseW, depthwiseB, groupedW]) => {
    const type = expectActivation("cca_conv_grad", "z", z);
    expectShape("cca_conv_grad", "dout", dout, type.shape);
    const like = (weight) => tensor(type.dtype, weight?.shape ?? []);
    return [type, like(depthwiseW), like(depthwiseB), like(groupedW), like(depthwiseB)];
  },
  flops: ({ inputs: [, z, , , groupedW] }) => elements(z) * (8 * (groupedW?.[1] ?? 0) + 15)
};
function expectState(operation, x, cuSeqlens, [state, slots, cached], rows) {
  const { dtype, shape } = expectRank(operation, "state", state, rows.length + 1, [x.dtype]);
  expectShape(operation, "state", tensor(dtype, shape), [shape[0], ...rows]);
  const sequences = plus(cuSeqlens?.shape[0] ?? 1, -1);
  expectShape(operation, "slots", expectRank(operation, "slots", slots, 1, ["int32"]), [sequences]);
  expectShape(operation, "cached", expectRank(operation, "cached", cached, 1, ["int32"]), [sequences]);
}
function ccaConv(z, depthwiseWeight, depthwiseBias, groupedWeight, groupedBias, cuSeqlens, { state, slots, cached } = {}) {
  const inputs = [z, depthwiseWeight, depthwiseBias, groupedWeight, groupedBias, cuSeqlens, state ?? null, slots ?? null, cached ?? null];
  return apply(ccaConvOperation, inputs)[0];
}

// packages/kernels/src/ops/carry_state.ts
var carryStateOperation = {
  name: "carry_state",
  infer: ([state, x, cuSeqlens, slots, cached]) => {
    const type = expectRank("carry_state", "x", expectActivation("carry_state", "x", x), 2);
    const carried = expectRank("carry_state", "state", state, 3);
    expectRank("carry_state", "cu_seqlens", cuSeqlens, 1, ["int32"]);
    expectState("carry_state", type, cuSeqlens, [state, slots, cached], [carried.shape[1], type.shape[1]]);
    return [carried];
  },
  inPlace: [[0, 0]]
};
function carryState(state, x, cuSeqlens, slots, cached) {
  return apply(carryStateOperation, [state, x, cuSeqlens, slots, cached])[0];
}

// packages/kernels/src/ops/cast.ts
var codes = { float32: 0, bfloat16: 1, float64: 2 };
var castOperation = {
  name: "cast",
  attributes: ["dtype"],
  infer: ([x], { dtype }) => {
    const target = Object.keys(codes).find((name) => codes[name] === dtype);
    if (!target || !x || !(x.dtype in codes) || x.encoding !== "plain") {
      throw new ZayaError("SHAPE_MISMATCH", `[cast] expected a plain floating-point tensor and type, received ${x?.encoding} ${x?.dtype}`);
    }
    return [tensor(target, x.shape)];
  },
  gradient: ({ inputs: [x], gradients: [dy] }) => {
    if (!x || !dy) return [null];
    const wanted = x.type.dtype === "float64" ? "float64" : "float32";
    return [dy.type.dtype === wanted ? dy : cast(dy, wanted)];
  }
};
function cast(x, dtype) {
  return apply(castOperation, [x], { dtype: codes[dtype] })[0];
}

// packages/kernels/src/ops/cca_qk.ts
var attributes = ["query_heads", "clamp_temp", "eps"];
var ccaQkOperation = {
  name: "cca_qk",
  attributes,
  infer: ([z, conv, temp], { query_heads: N = 0 }) => {
    const type = expectRank("cca_qk", "z", expectActivation("cca_qk", "z", z), 2);
    expectShape("cca_qk", "conv", conv, type.shape);
    const K = expectFixed("cca_qk", "key heads", expectRank("cca_qk", "temp", temp, 1).shape[0]);
    const channels = expectFixed("cca_qk", "channels", type.shape[1]);
    if (N < 1 || K < 1 || N % K !== 0 || channels % (N + K) !== 0) {
      throw new ZayaError("SHAPE_MISMATCH", `[cca_qk] ${N} query heads, ${K} key heads and ${channels} channels do not fit together`);
    }
    const heads = (count) => tensor(type.dtype, [type.shape[0], count, channels / (N + K)]);
    return [heads(N), heads(K)];
  },
  gradient: ({ node, inputs, outputs, gradients }) => {
    const [z, conv, temp] = inputs;
    if (!z || !conv || !temp) return [null, null, null];
    const [dq, dk] = gradients.map((gradient, i) => gradient ?? fill(outputs[i], 0));
    return apply(ccaQkGradOperation, [dq ?? null, dk ?? null, z, conv, temp], node.attributes);
  },
  flops: ({ inputs: [z] }) => 7 * elements(z)
};
var ccaQkGradOperation = {
  name: "cca_qk_grad",
  attributes,
  infer: ([, , z, , temp]) => {
    const type = expectActivation("cca_qk_grad", "z", z);
    return [type, type, tensor(type.dtype, temp?.shape ?? [])];
  },
  flops: ({ inputs: [, , z] }) => 15 * elements(z)
};
function ccaQk(z, conv, temp, { queryHeads, clampTemp = false, eps = 2 ** -23 }) {
  const [q, k] = apply(ccaQkOperation, [z, conv, temp], { query_heads: queryHeads, clamp_temp: clampTemp ? 1 : 0, eps });
  return { q, k };
}

// packages/kernels/src/ops/clip_scale.ts
var clipScaleOperation = {
  name: "clip_scale",
  attributes: ["max_norm"],
  infer: ([sumOfSquares2, divisor]) => {
    expectShape("clip_scale", "sum_of_squares", sumOfSquares2, [1]);
    expectShape("clip_scale", "divisor", divisor, [1]);
    return [expectActivation("clip_scale", "sum_of_squares", sumOfSquares2)];
  }
};
function clipScale(sumOfSquares2, divisor, { maxNorm }) {
  return apply(clipScaleOperation, [sumOfSquares2, divisor], { max_norm: maxNorm })[0];
}

// packages/kernels/src/ops/column_sum.ts
var columnSumOperation = {
  name: "column_sum",
  infer: ([x]) => {
    const { dtype, shape } = expectRank("column_sum", "x", x, 2);
    return [tensor(dtype, [shape[1]])];
  },
  flops: ({ outputs, inputs }) => (inputs[0]?.[0] ?? 0) * (outputs[0]?.[0] ?? 0)
};
function columnSum(x) {
  return apply(columnSumOperation, [x])[0];
}

// packages/kernels/src/ops/combine.ts
var combineOperation = {
  name: "combine",
  infer: ([sorted, order, prob]) => {
    const type = expectRank("combine", "y_sorted", expectActivation("combine", "y_sorted", sorted), 2);
    expectShape("combine", "order", expectRank("combine", "order", order, 1, ["int32"]), type.shape.slice(0, 1));
    expectShape("combine", "prob", expectRank("combine", "prob", prob, 1, [type.dtype]), type.shape.slice(0, 1));
    return [type];
  },
  gradient: ({ inputs: [sorted, order, prob], gradients: [dy] }) => {
    if (!sorted || !order || !prob || !dy) return [null, null, null];
    const [dsorted, dprob] = apply(combineGradOperation, [dy, sorted, order, prob]);
    return [dsorted, null, dprob];
  },
  flops: ({ inputs: [sorted] }) => elements(sorted)
};
var combineGradOperation = {
  name: "combine_grad",
  infer: ([dy, sorted, , prob]) => {
    const type = expectActivation("combine_grad", "y_sorted", sorted);
    expectShape("combine_grad", "dy", dy, type.shape);
    return [type, expectActivation("combine_grad", "prob", prob)];
  },
  flops: ({ inputs: [dy] }) => 3 * elements(dy),
  inPlace: [[0, 1]]
};
function combine(sorted, order, prob) {
  return apply(combineOperation, [sorted, order, prob])[0];
}

// packages/kernels/src/ops/slice.ts
var sliceOperation = {
  name: "slice",
  attributes: ["begin", "end"],
  infer: ([x], { begin = 0, end = 0 }) => {
    const columns = x?.shape.at(-1);
    if (!x || typeof columns !== "number" || !(begin >= 0 && begin <= end && end <= columns)) {
      throw new ZayaError(
        "SHAPE_MISMATCH",
        `[slice] columns ${begin} to ${end} do not fit ${typeof columns === "number" ? `${columns} columns` : "the input"}`
      );
    }
    return [tensor(x.dtype, [...x.shape.slice(0, -1), end - begin])];
  },
  gradient: ({ node, inputs: [x], gradients: [dy] }) => [
    x && dy ? apply(sliceGradOperation, [dy, x], node.attributes)[0] : null
  ]
};
var sliceGradOperation = {
  name: "slice_grad",
  attributes: ["begin", "end"],
  infer: ([, x]) => [x]
};
function slice(x, { begin, end }) {
  return apply(sliceOperation, [x], { begin, end })[0];
}

// packages/kernels/src/ops/concat.ts
var concatOperation = {
  name: "concat",
  infer: ([a, b]) => {
    const left = expectActivation("concat", "a", a);
    const columns = b?.shape.at(-1);
    expectShape("concat", "b", b, [...left.shape.slice(0, -1), columns]);
    return [tensor(left.dtype, [...left.shape.slice(0, -1), lastFixed(left.shape) + lastFixed(b?.shape ?? [])])];
  },
  gradient: ({ inputs: [a, b], gradients: [dy], wants }) => {
    if (!a || !b || !dy) return [null, null];
    const [left, right] = [lastFixed(a.type.shape), lastFixed(b.type.shape)];
    return [wants(0) ? slice(dy, { begin: 0, end: left }) : null, wants(1) ? slice(dy, { begin: left, end: left + right }) : null];
  }
};
function concat(a, b) {
  return apply(concatOperation, [a, b])[0];
}
function lastFixed(shape) {
  const last = shape.at(-1);
  if (typeof last !== "number")
    throw new ZayaError("SHAPE_MISMATCH", `[concat] expected a fixed number of columns, received ${last?.name ?? "nothing"}`);
  return last;
}

// packages/kernels/src/ops/embedding.ts
var embeddingOperation = {
  name: "embedding",
  infer: ([table, ids]) => {
    const { shape, dtype } = expectRank("embedding", "table", table, 2);
    const tokens = expectRank("embedding", "ids", ids, 1, ["int32"]);
    return [computed(tensor(dtype, [tokens.shape[0], shape[1]]))];
  },
  gradient: ({ inputs: [table, ids], gradients: [dy] }) => {
    if (!table || !ids || !dy) return [null, null];
    const rows = expectFixed("embedding", "rows of the table", table.type.shape[0]);
    return [apply(embeddingGradOperation, [dy, ids], { rows })[0], null];
  },
  bytes: ({ outputs: [y] }) => 8 * elements(y)
};
var embeddingGradOperation = {
  name: "embedding_grad",
  attributes: ["rows"],
  infer: ([dy], { rows = 0 }) => {
    const { dtype, shape } = expectRank("embedding_grad", "dy", dy, 2, ["float32", "float64"]);
    return [tensor(dtype, [rows, shape[1]])];
  },
  flops: ({ inputs: [dy] }) => elements(dy)
};
function embedding(table, ids) {
  return apply(embeddingOperation, [table, ids])[0];
}

// packages/kernels/src/ops/expert_sort.ts
var expertSortOperation = {
  name: "expert_sort",
  attributes: ["num_experts", "wide"],
  infer: ([index], { num_experts: E = 0, wide = 0 }) => {
    const { shape } = expectRank("expert_sort", "index", index, 1, ["int32"]);
    return [tensor("int32", shape), tensor("int32", [E + 2]), tensor(wide ? "float64" : "float32", [E + 1])];
  },
  gradient: () => [null]
};
function expertSort(index, { numExperts, dtype = "float32" }) {
  const [order, offsets, counts] = apply(expertSortOperation, [index], { num_experts: numExperts, wide: dtype === "float64" ? 1 : 0 });
  return { order, offsets, counts };
}

// packages/kernels/src/ops/scatter_rows.ts
var scatterRowsOperation = {
  name: "scatter_rows",
  infer: ([dy, rows, like]) => {
    const type = expectActivation("scatter_rows", "dy", dy);
    const { shape } = expectRank("scatter_rows", "rows", rows, 1, ["int32"]);
    const target = expectRank("scatter_rows", "like", like, 2);
    expectShape("scatter_rows", "dy", type, [shape[0], target.shape[1]]);
    return [tensor(type.dtype, target.shape)];
  },
  gradient: ({ inputs: [, rows], gradients: [dy] }) => [rows && dy ? gatherRows(dy, rows) : null, null, null],
  flops: ({ inputs: [dy] }) => elements(dy)
};
function scatterRows(dy, rows, like) {
  return apply(scatterRowsOperation, [dy, rows, like])[0];
}

// packages/kernels/src/ops/gather_rows.ts
var gatherRowsOperation = {
  name: "gather_rows",
  infer: ([x, rows]) => {
    const { dtype, shape } = expectRank("gather_rows", "x", x, 2);
    const { shape: wanted } = expectRank("gather_rows", "rows", rows, 1, ["int32"]);
    return [tensor(dtype, [wanted[0], shape[1]])];
  },
  gradient: ({ inputs: [x, rows], gradients: [dy] }) => [x && rows && dy ? scatterRows(dy, rows, x) : null, null],
  bytes: ({ outputs: [y] }) => 8 * elements(y)
};
function gatherRows(x, rows) {
  return apply(gatherRowsOperation, [x, rows])[0];
}

// packages/kernels/src/ops/gelu.ts
var geluOperation = {
  name: "gelu",
  infer: ([x]) => [expectActivation("gelu", "x", x)],
  gradient: ({ inputs: [x], gradients: [dy] }) => [x && dy ? apply(geluGradOperation, [dy, x])[0] : null],
  flops: ({ inputs: [x] }) => 30 * elements(x),
  inPlace: [[0, 0]]
};
var geluGradOperation = {
  name: "gelu_grad",
  infer: ([, x]) => [expectActivation("gelu_grad", "x", x)],
  flops: ({ inputs: [x] }) => 50 * elements(x),
  inPlace: [
    [0, 0],
    [0, 1]
  ]
};
function gelu(x) {
  return apply(geluOperation, [x])[0];
}

// packages/kernels/src/ops/linear.ts
var linearOperation = {
  name: "linear",
  attributes: ["compute"],
  infer: ([x, w, bias]) => {
    const { shape } = expectRank("linear", "x", x, 2);
    const [N, K] = expectRank("linear", "w", w, 2).shape;
    if (!sameDimension(shape[1], K)) expectShape("linear", "x", x, [shape[0], K]);
    if (bias) expectShape("linear", "bias", bias, [N]);
    return [computed(x, [shape[0], N])];
  },
  gradient: ({ node, inputs: [x, w, bias], gradients: [dy], wants }) => {
    if (!x || !w || !dy) return [];
    return [
      wants(0) ? apply(linearInputGradOperation, [dy, w], node.attributes)[0] : null,
      wants(1) ? apply(linearWeightGradOperation, [dy, x], node.attributes)[0] : null,
      bias && wants(2) ? columnSum(dy) : null
    ];
  },
  flops: ({ inputs, outputs }) => 2 * product(outputs[0]) * (inputs[0]?.[1] ?? 0)
};
var linearInputGradOperation = {
  name: "linear_input_grad",
  attributes: ["compute"],
  infer: ([dy, w]) => {
    const { shape } = expectRank("linear_input_grad", "dy", dy, 2);
    const [N, K] = expectRank("linear_input_grad", "w", w, 2).shape;
    expectShape("linear_input_grad", "dy", dy, [shape[0], N]);
    return [computed(dy, [shape[0], K])];
  },
  flops: ({ inputs, outputs }) => 2 * product(outputs[0]) * (inputs[0]?.[1] ?? 0)
};
var linearWeightGradOperation = {
  name: "linear_weight_grad",
  attributes: ["compute"],
  infer: ([dy, x]) => {
    const [T, N] = expectRank("linear_weight_grad", "dy", dy, 2).shape;
    const [, K] = expectRank("linear_weight_grad", "x", x, 2).shape;
    expectShape("linear_weight_grad", "x", x, [T, K]);
    return [computed(dy, [N, K])];
  },
  flops: ({ inputs, outputs }) => 2 * product(outputs[0]) * (inputs[0]?.[0] ?? 0)
};
function product(shape) {
  return (shape ?? []).reduce((n, d) => n * d, 1);
}
function computeAttribute({ compute = "float32" }) {
  if (compute !== "float32" && compute !== "bfloat16")
    fail("INVALID_ARGUMENT", `compute is float32 or bfloat16, received ${String(compute)}`);
  return { compute: compute === "bfloat16" ? 1 : 0 };
}
function linear(x, w, { bias = null, ...options } = {}) {
  return apply(linearOperation, [x, w, bias], computeAttribute(options))[0];
}

// packages/kernels/src/ops/grouped_linear.ts
var groupedLinearOperation = {
  name: "grouped_linear",
  attributes: ["compute"],
  infer: ([x, w, offsets]) => {
    const [E, N, K] = expectRank("grouped_linear", "w", w, 3).shape;
    const [T] = expectRank("grouped_linear", "x", x, 2).shape;
    expectShape("grouped_linear", "x", x, [T, K]);
    expectShape("grouped_linear", "offsets", offsets, [plus(E, 2)]);
    return [computed(x, [T, N])];
  },
  gradient: ({ node, inputs: [x, w, offsets], gradients: [dy], wants }) => {
    if (!x || !w || !offsets || !dy) return [];
    return [
      wants(0) ? apply(groupedLinearInputGradOperation, [dy, w, offsets], node.attributes)[0] : null,
      wants(1) ? apply(groupedLinearWeightGradOperation, [dy, x, offsets], node.attributes)[0] : null,
      null
    ];
  },
  flops: ({ inputs, outputs }) => 2 * (outputs[0]?.[0] ?? 0) * (outputs[0]?.[1] ?? 0) * (inputs[0]?.[1] ?? 0)
};
var groupedLinearInputGradOperation = {
  name: "grouped_linear_input_grad",
  attributes: ["compute"],
  infer: ([dy, w, offsets]) => {
    const [E, N, K] = expectRank("grouped_linear_input_grad", "w", w, 3).shape;
    const [T] = expectRank("grouped_linear_input_grad", "dy", dy, 2).shape;
    expectShape("grouped_linear_input_grad", "dy", dy, [T, N]);
    expectShape("grouped_linear_input_grad", "offsets", offsets, [plus(E, 2)]);
    return [computed(dy, [T, K])];
  },
  flops: ({ inputs, outputs }) => 2 * (outputs[0]?.[0] ?? 0) * (outputs[0]?.[1] ?? 0) * (inputs[0]?.[1] ?? 0)
};
var groupedLinearWeightGradOperation = {
  name: "grouped_linear_weight_grad",
  attributes: ["compute"],
  infer: ([dy, x, offsets]) => {
    const [T, N] = expectRank("grouped_linear_weight_grad", "dy", dy, 2).shape;
    const [, K] = expectRank("grouped_linear_weight_grad", "x", x, 2).shape;
    expectShape("grouped_linear_weight_grad", "x", x, [T, K]);
    const [E2] = expectRank("grouped_linear_weight_grad", "offsets", offsets, 1).shape;
    return [computed(dy, [plus(E2, -2), N, K])];
  },
  flops: ({ inputs, outputs }) => 2 * (inputs[0]?.[0] ?? 0) * (outputs[0]?.[1] ?? 0) * (outputs[0]?.[2] ?? 0)
};
function groupedLinear(x, w, offsets, options = {}) {
  return apply(groupedLinearOperation, [x, w, offsets], computeAttribute(options))[0];
}

// packages/kernels/src/ops/linear_cross_entropy.ts
var linearCrossEntropyOperation = {
  name: "linear_cross_entropy",
  attributes: ["compute"],
  infer: ([h, w, bias, labels]) => {
    const [T] = expectRank("linear_cross_entropy", "h", h, 2).shape;
    const [V, D] = expectRank("linear_cross_entropy", "w", w, 2).shape;
    expectShape("linear_cross_entropy", "h", h, [T, D]);
    if (bias) expectShape("linear_cross_entropy", "bias", bias, [V]);
    expectShape("linear_cross_entropy", "labels", labels, [T]);
    const each = computed(h, [T]);
    return [each, each];
  },
  gradient: ({ node, inputs: [h, w, bias, labels], outputs: [, lse], gradients: [dloss], wants }) => {
    if (!h || !w || !labels || !lse || !dloss) return [];
    const [dh, dw, dbias] = apply(linearCrossEntropyGradOperation, [dloss, h, w, bias ?? null, labels, lse], node.attributes);
    return [dh, wants(1) ? dw : null, bias && dbias ? dbias : null, null];
  },
  flops: ({ inputs }) => 2 * (inputs[0]?.[0] ?? 0) * (inputs[1]?.[0] ?? 0) * (inputs[1]?.[1] ?? 0)
};
var linearCrossEntropyGradOperation = {
  name: "linear_cross_entropy_grad",
  attributes: ["compute"],
  infer: ([, h, w, bias]) => {
    const dh = computed(h);
    const dw = computed(h, w.shape);
    return bias ? [dh, dw, computed(h, bias.shape)] : [dh, dw];
  },
  flops: ({ inputs }) => 6 * (inputs[1]?.[0] ?? 0) * (inputs[2]?.[0] ?? 0) * (inputs[2]?.[1] ?? 0)
};
function linearCrossEntropy(h, w, labels, { bias = null, ...options } = {}) {
  const [loss, lse] = apply(linearCrossEntropyOperation, [h, w, bias, labels], computeAttribute(options));
  return { loss, lse };
}

// packages/kernels/src/ops/multiply.ts
var multiplyOperation = {
  name: "multiply",
  infer: ([a, b]) => {
    const x = expectActivation("multiply", "a", a);
    expectShape("multiply", "b", b, x.shape);
    return [x];
  },
  gradient: ({ inputs: [a, b], gradients: [dy], wants }) => {
    if (!a || !b || !dy) return [null, null];
    return [wants(0) ? multiply(dy, b) : null, wants(1) ? multiply(dy, a) : null];
  },
  flops: ({ outputs: [y] }) => elements(y),
  inPlace: [
    [0, 0],
    [0, 1]
  ]
};
function multiply(a, b) {
  return apply(multiplyOperation, [a, b])[0];
}

// packages/kernels/src/ops/muon.ts
var muonOperation = {
  name: "muon",
  infer: ([p, g, momentum, factor, hyper]) => {
    if (!p || p.shape.length < 2 || p.dtype !== "float32" || p.encoding !== "plain") {
      fail("SHAPE_MISMATCH", `[muon] expected p to be plain float32 [.., R, C], received ${p ? describeType(p) : "nothing"}`);
    }
    for (const [name, other] of [
      ["g", g],
      ["momentum", momentum]
    ]) {
      const { dtype, encoding } = expectShape("muon", name, other, p.shape);
      if (dtype !== "float32" || encoding !== "plain")
        fail("SHAPE_MISMATCH", `[muon] expected ${name} to be plain float32, received ${encoding} ${dtype}`);
    }
    expectShape("muon", "scale", factor, [1]);
    expectShape("muon", "hyper", hyper, [4]);
    return [p, p];
  },
  flops: ({ inputs: [p] }) => {
    const [columns = 0, rows = 0] = [...p ?? []].reverse();
    const short = Math.min(rows, columns);
    return 5 * elements(p) * 4 * short + (elements(p) === 0 ? 0 : elements(p) / (rows * columns) * 5 * 2 * short ** 3);
  },
  inPlace: [
    [0, 0],
    [1, 2]
  ]
};
function muon(p, g, momentum, scale2, hyper) {
  const [nextP, nextMomentum] = apply(muonOperation, [p, g, momentum, scale2, hyper]);
  return { p: nextP, momentum: nextMomentum };
}

// packages/kernels/src/ops/paged_attention.ts
var pageTokens = 32;
var pagedAttentionOperation = {
  name: "paged_attention",
  attributes: ["scale", "window"],
  infer: ([q, kPages, vPages, cuSeqlens, cached, pageTable]) => {
    const type = expectRank("paged_attention", "q", expectActivation("paged_attention", "q", q), 3);
    const keys = expectPages("paged_attention", type, [kPages, vPages]);
    expectGroups("paged_attention", type, keys);
    expectPageTable("paged_attention", [cuSeqlens, cached, pageTable]);
    return [type];
  },
  flops: ({ inputs }, { window = 0 }) => 4 * elements(inputs[0]) * keysSeen(inputs[5], window)
};
var kvAppendOperation = {
  name: "kv_append",
  infer: ([kPages, vPages, k, v, cuSeqlens, cached, pageTable]) => {
    const type = expectRank("kv_append", "k", expectActivation("kv_append", "k", k), 3);
    expectShape("kv_append", "v", v, type.shape);
    const keys = expectPages("kv_append", type, [kPages, vPages]);
    expectShape("kv_append", "k", type, [type.shape[0], keys.shape[1], keys.shape[2]]);
    expectPageTable("kv_append", [cuSeqlens, cached, pageTable]);
    return [keys, vPages];
  },
  // The cache is not read; only the new rows are.
  bytes: ({ inputs }) => 16 * elements(inputs[2]),
  inPlace: [
    [0, 0],
    [1, 1]
  ]
};
function expectPages(operation, x, [kPages, vPages]) {
  const types = x.dtype === "float64" ? ["float64"] : ["float32", "bfloat16"];
  const keys = expectRank(operation, "k_pages", kPages, 4, types);
  const [pages = 0, heads = 0] = keys.shape;
  const head = x.shape[2];
  expectShape(operation, "k_pages", keys, [pages, heads, head, pageTokens]);
  expectShape(operation, "v_pages", expectRank(operation, "v_pages", vPages, 4, [keys.dtype]), [pages, heads, pageTokens, head]);
  return keys;
}
function expectPageTable(operation, [cuSeqlens, cached, pageTable]) {
  const sequences = plus(expectRank(operation, "cu_seqlens", cuSeqlens, 1, ["int32"]).shape[0], -1);
  expectShape(operation, "cached", expectRank(operation, "cached", cached, 1, ["int32"]), [sequences]);
  const table = expectRank(operation, "page_table", pageTable, 2, ["int32"]);
  expectShape(operation, "page_table", table, [sequences, table.shape[1]]);
}
function keysSeen(pageTable, window) {
  const keys = pageTokens * (pageTable?.[1] ?? 0);
  return window > 0 ? Math.min(window, keys) : keys;
}
function pagedAttention(q, kPages, vPages, cuSeqlens, cached, pageTable, {
  scale: scale2 = 1 / Math.sqrt(expectFixed("paged_attention", "the head size", q.type.shape[2])),
  window = 0
} = {}) {
  return apply(pagedAttentionOperation, [q, kPages, vPages, cuSeqlens, cached, pageTable], { scale: scale2, window })[0];
}
function kvAppend(kPages, vPages, k, v, cuSeqlens, cached, pageTable) {
  const [keys, values] = apply(kvAppendOperation, [kPages, vPages, k, v, cuSeqlens, cached, pageTable]);
  return { keys, values };
}

// packages/kernels/src/ops/reshape.ts
function reshapeOperation(shape) {
  return {
    name: "reshape",
    view: true,
    infer: ([x]) => {
      const y = tensor(x?.dtype ?? "float32", shape);
      if (x?.encoding !== "plain" || maxElements(x) !== maxElements(y)) {
        throw new ZayaError(
          "SHAPE_MISMATCH",
          `[reshape] expected as many elements as ${describeType(y)}, received ${x ? describeType(x) : "nothing"}`
        );
      }
      return [y];
    },
    gradient: ({ inputs: [x], gradients: [dy] }) => [x && dy ? reshape(dy, x.type.shape) : null]
  };
}
function reshape(x, shape) {
  return apply(reshapeOperation(shape), [x])[0];
}

// packages/kernels/src/ops/residual_merge.ts
var vectors = ["y_scale", "y_bias", "h_scale", "h_bias"];
var residualMergeOperation = {
  name: "residual_merge",
  infer: (inputs) => [checkMerge("residual_merge", inputs)],
  gradient: ({ inputs, gradients: [dout] }) => dout ? residualMergeGrad(dout, inputs) : inputs.map(() => null),
  flops: ({ inputs: [y, h] }) => (h ? 5 : 2) * elements(y),
  inPlace: [
    [0, 0],
    [0, 1]
  ]
};
var residualMergeGradOperation = {
  name: "residual_merge_grad",
  infer: ([dout, y, ...rest]) => {
    const type = expectActivation("residual_merge_grad", "y", y);
    expectShape("residual_merge_grad", "dout", dout, type.shape);
    const vector = tensor(type.dtype, [type.shape.at(-1)]);
    return [type, ...rest.flatMap((input, i) => input ? [i === 0 ? type : vector] : [])];
  },
  flops: ({ inputs: [dout] }) => 10 * elements(dout),
  inPlace: [
    [0, 0],
    [0, 1]
  ]
};
function checkMerge(operation, [y, h, ...rest]) {
  const type = expectActivation(operation, "y", y);
  if (h) expectShape(operation, "h", h, type.shape);
  vectors.forEach((name, i) => {
    const vector = rest[i];
    if (vector) expectShape(operation, name, vector, type.shape.slice(-1));
  });
  return type;
}
function residualMergeGrad(dout, inputs) {
  const merged = inputs.slice(0, 6);
  const outputs = [...apply(residualMergeGradOperation, [dout, ...merged])];
  return merged.map((input) => input ? outputs.shift() : null);
}
function residualMerge(y, h, { yScale = null, yBias = null, hScale = null, hBias = null } = {}) {
  return apply(residualMergeOperation, [y, h, yScale, yBias, hScale, hBias])[0];
}

// packages/kernels/src/ops/rms_norm.ts
var rmsNormOperation = {
  name: "rms_norm",
  attributes: ["eps"],
  infer: ([x, weight]) => {
    const y = expectActivation("rms_norm", "x", x);
    expectShape("rms_norm", "weight", weight, y.shape.slice(-1));
    return [y];
  },
  gradient: ({ node, inputs: [x, weight], gradients: [dy] }) => {
    if (!x || !weight || !dy) return [null, null];
    const { dx, dweight } = rmsNormGrad(dy, x, weight, null, node.attributes.eps ?? 0);
    return [dx, dweight];
  },
  flops: ({ inputs: [x] }) => 4 * elements(x),
  inPlace: [[0, 0]]
};
var rmsNormGradOperation = {
  name: "rms_norm_grad",
  attributes: ["eps"],
  infer: ([dy, x]) => {
    const type = expectActivation("rms_norm_grad", "x", x);
    expectShape("rms_norm_grad", "dy", dy, type.shape);
    return [type, computed(tensor(type.dtype, [type.shape.at(-1)]))];
  },
  flops: ({ inputs: [dy] }) => 11 * elements(dy),
  inPlace: [
    [0, 0],
    [0, 3],
    [0, 1]
  ]
};
function rmsNormGrad(dy, x, weight, add2, eps) {
  const [dx, dweight] = apply(rmsNormGradOperation, [dy, x, weight, add2], { eps });
  return { dx, dweight };
}
function rmsNorm(x, weight, { eps = 1e-5 } = {}) {
  return apply(rmsNormOperation, [x, weight], { eps })[0];
}

// packages/kernels/src/ops/residual_rms_norm.ts
var residualRmsNormOperation = {
  name: "residual_rms_norm",
  attributes: ["eps"],
  infer: (inputs) => {
    const type = checkMerge("residual_rms_norm", inputs.slice(0, 6));
    expectShape("residual_rms_norm", "weight", inputs[6], type.shape.slice(-1));
    return [type, type];
  },
  decompose: ([y, h, yScale, yBias, hScale, hBias, weight], { eps = 0 }) => {
    const out = residualMerge(y, h ?? null, {
      yScale: yScale ?? null,
      yBias: yBias ?? null,
      hScale: hScale ?? null,
      hBias: hBias ?? null
    });
    return [out, rmsNorm(out, weight, { eps })];
  },
  gradient: ({ node, inputs, outputs: [out], gradients: [dout, dnormed] }) => {
    const weight = inputs[6];
    if (!dnormed) return [...dout ? residualMergeGrad(dout, inputs) : inputs.slice(0, 6).map(() => null), null];
    const norm = rmsNormGrad(dnormed, out, weight, dout ?? null, node.attributes.eps ?? 0);
    return [...residualMergeGrad(norm.dx, inputs), norm.dweight];
  },
  flops: ({ inputs: [y, h] }) => (h ? 9 : 6) * elements(y),
  inPlace: [
    [0, 0],
    [0, 1]
  ]
};
function residualRmsNorm(y, h, weight, { eps = 1e-5, yScale = null, yBias = null, hScale = null, hBias = null } = {}) {
  const [out, normed] = apply(residualRmsNormOperation, [y, h, yScale, yBias, hScale, hBias, weight], { eps });
  return { h: out, normed };
}

// packages/kernels/src/ops/rope.ts
var ropeOperation = {
  name: "rope",
  attributes: ["rotary", "theta", "inverse"],
  infer: ([x, positions], { rotary = 0, theta = 0 }) => {
    const type = expectRank("rope", "x", expectActivation("rope", "x", x), 3);
    const head = expectFixed("rope", "the head size", type.shape[2]);
    expectShape("rope", "positions", expectRank("rope", "positions", positions, 1, ["int32"]), [type.shape[0]]);
    if (!Number.isInteger(rotary) || rotary < 0 || rotary > head || rotary % 2 !== 0) {
      throw new ZayaError("INVALID_ARGUMENT", `[rope] expected an even number of rotary dimensions up to ${head}, received ${rotary}`);
    }
    if (!(theta > 0)) throw new ZayaError("INVALID_ARGUMENT", `[rope] expected theta above 0, received ${theta}`);
    return [type];
  },
  gradient: ({ node, inputs: [, positions], gradients: [dy] }) => {
    if (!positions || !dy) return [null, null];
    const { rotary = 0, theta = 0, inverse = 0 } = node.attributes;
    return [apply(ropeOperation, [dy, positions], { rotary, theta, inverse: inverse === 0 ? 1 : 0 })[0], null];
  },
  flops: ({ inputs: [x] }, { rotary = 0 }) => 3 * elements(x) * rotary / Math.max(1, x?.[2] ?? 1),
  inPlace: [[0, 0]]
};
function rope(x, positions, { rotary, theta }) {
  return apply(ropeOperation, [x, positions], { rotary, theta, inverse: 0 })[0];
}

// packages/kernels/src/ops/sum.ts
var sumOperation = {
  name: "sum",
  infer: ([x]) => [computed(expectActivation("sum", "x", x), [1])],
  gradient: ({ inputs: [x], gradients: [dy] }) => [x && dy ? sumGrad(dy, x) : null],
  flops: ({ inputs: [x] }) => elements(x)
};
var sumGradOperation = {
  name: "sum_grad",
  infer: ([, x]) => [x]
};
function sum(x) {
  return apply(sumOperation, [x])[0];
}
function sumGrad(dy, x) {
  return apply(sumGradOperation, [dy, x])[0];
}

// packages/kernels/src/ops/scale.ts
var scaleOperation = {
  name: "scale",
  infer: ([x, factor]) => {
    expectShape("scale", "factor", factor, [1]);
    return [expectActivation("scale", "x", x)];
  },
  gradient: ({ inputs: [x, factor], gradients: [dy], wants }) => {
    if (!x || !factor || !dy) return [null, null];
    return [wants(0) ? scale(dy, factor) : null, wants(1) ? sum(multiply(dy, x)) : null];
  },
  flops: ({ outputs: [y] }) => elements(y),
  inPlace: [[0, 0]]
};
function scale(x, factor) {
  return apply(scaleOperation, [x, factor])[0];
}

// packages/kernels/src/ops/select_expert.ts
var selectExpertOperation = {
  name: "select_expert",
  infer: ([p, bias]) => {
    const type = expectRank("select_expert", "p", expectActivation("select_expert", "p", p), 2);
    expectShape("select_expert", "bias", bias, type.shape.slice(1));
    const tokens = [type.shape[0]];
    return [tensor("int32", tokens), tensor(type.dtype, tokens)];
  },
  gradient: ({ inputs: [p], outputs: [index], gradients: [, dprob] }) => [
    p && index && dprob ? apply(selectExpertGradOperation, [dprob, index, p])[0] : null,
    null
  ],
  flops: ({ inputs: [p] }) => elements(p)
};
var selectExpertGradOperation = {
  name: "select_expert_grad",
  infer: ([, , p]) => [expectActivation("select_expert_grad", "p", p)]
};
function selectExpert(p, bias) {
  const [index, prob] = apply(selectExpertOperation, [p, bias]);
  return { index, prob };
}

// packages/kernels/src/ops/softmax.ts
var softmaxOperation = {
  name: "softmax",
  infer: ([x]) => [expectActivation("softmax", "x", x)],
  gradient: ({ outputs: [p], gradients: [dp] }) => [p && dp ? apply(softmaxGradOperation, [dp, p])[0] : null],
  flops: ({ inputs: [x] }) => 20 * elements(x),
  inPlace: [[0, 0]]
};
var softmaxGradOperation = {
  name: "softmax_grad",
  infer: ([, p]) => [expectActivation("softmax_grad", "p", p)],
  flops: ({ inputs: [p] }) => 4 * elements(p),
  inPlace: [
    [0, 0],
    [0, 1]
  ]
};
function softmax(x) {
  return apply(softmaxOperation, [x])[0];
}

// packages/kernels/src/ops/sum_of_squares.ts
var sumOfSquaresOperation = {
  name: "sum_of_squares",
  infer: ([x]) => [computed(expectActivation("sum_of_squares", "x", x), [1])],
  gradient: ({ inputs: [x], gradients: [dy] }) => [x && dy ? scale(x, add(dy, dy)) : null],
  flops: ({ inputs: [x] }) => 2 * elements(x)
};
function sumOfSquares(x) {
  return apply(sumOfSquaresOperation, [x])[0];
}

// packages/kernels/src/ops/swiglu.ts
var swigluOperation = {
  name: "swiglu",
  infer: ([gateUp]) => [inner(expectActivation("swiglu", "gate_up", gateUp))],
  gradient: ({ inputs: [gateUp], gradients: [dy] }) => [gateUp && dy ? apply(swigluGradOperation, [dy, gateUp])[0] : null],
  flops: ({ outputs: [y] }) => 20 * elements(y)
};
var swigluGradOperation = {
  name: "swiglu_grad",
  infer: ([dy, gateUp]) => {
    const type = expectActivation("swiglu_grad", "gate_up", gateUp);
    expectShape("swiglu_grad", "dy", dy, inner(type).shape);
    return [type];
  },
  flops: ({ inputs: [dy] }) => 28 * elements(dy),
  inPlace: [[0, 1]]
};
function swiglu(gateUp) {
  return apply(swigluOperation, [gateUp])[0];
}
function inner(type) {
  const columns = expectFixed("swiglu", "columns of gate_up", type.shape.at(-1));
  if (columns % 2 !== 0) throw new ZayaError("SHAPE_MISMATCH", `[swiglu] expected an even number of columns, received ${columns}`);
  return tensor(type.dtype, [...type.shape.slice(0, -1), columns / 2]);
}

// packages/kernels/src/ops/value_delay.ts
var valueDelayOperation = {
  name: "value_delay",
  infer: ([current, delayed, cuSeqlens, state, slots, cached]) => {
    const type = expectRank("value_delay", "current", expectActivation("value_delay", "current", current), 2);
    expectShape("value_delay", "delayed", delayed, type.shape);
    expectRank("value_delay", "cu_seqlens", cuSeqlens, 1, ["int32"]);
    const width = expectFixed("value_delay", "columns", type.shape[1]);
    if (state) expectState("value_delay", type, cuSeqlens, [state, slots, cached], [1, width]);
    return [tensor(type.dtype, [type.shape[0], 2 * width])];
  },
  gradient: ({ inputs, gradients: [dout] }) => {
    const [, , cuSeqlens, state] = inputs;
    if (state)
      throw new ZayaError("UNSUPPORTED_OPERATION", "[value_delay] has no gradient through carried state; train on whole sequences");
    if (!dout) return inputs.map(() => null);
    return [...apply(valueDelayGradOperation, [dout, cuSeqlens ?? null]), null, null, null, null];
  }
};
var valueDelayGradOperation = {
  name: "value_delay_grad",
  infer: ([dout]) => {
    const type = expectRank("value_delay_grad", "dout", dout, 2);
    const half = tensor(type.dtype, [type.shape[0], expectFixed("value_delay_grad", "columns", type.shape[1]) / 2]);
    return [half, half];
  }
};
function valueDelay(current, delayed, cuSeqlens, { state, slots, cached } = {}) {
  return apply(valueDelayOperation, [current, delayed, cuSeqlens, state ?? null, slots ?? null, cached ?? null])[0];
}

// ../../perf2.mts
var device = await openDevice("cpu", { threads: 1 });
for (const [N, K] of [[256, 2048], [4096, 2048]]) for (const dtype of ["int8"]) for (const M of [1, 12, 24, 48, 240]) {
  const store = device.createStore();
  const g = createGraph();
  const x = g.input("x", tensor("float32", [M, K]));
  await store.write(`w`, tensor(dtype, [N, K], "panels"), new Float32Array(N * K).map(() => Math.random() - 0.5));
  for (let i = 0; i < 30; i++) g.output(`y${i}`, ops_exports.linear(x, g.read(`w`, tensor(dtype, [N, K], "panels"))));
  const e = device.compile(g, store);
  const inputs = { x: new Float32Array(M * K).map(() => Math.random() - 0.5) };
  await e.run({ inputs });
  const rs = [];
  for (let r = 0; r < 5; r++) {
    const peak = await device.measure("int8", 5);
    const p = await e.profile({ inputs });
    const ns = Math.min(...p.nanoseconds);
    rs.push(2 * M * N * K / ns / peak);
    if (r == 4) console.log(dtype, N, K, "M", M, "us", (ns / 1e3).toFixed(1), "GB/s", (store.bytes() / ns).toFixed(1), "of peak", Math.max(...rs).toFixed(3));
  }
  await e[Symbol.asyncDispose]();
  await store[Symbol.asyncDispose]();
}
await device[Symbol.asyncDispose]();
