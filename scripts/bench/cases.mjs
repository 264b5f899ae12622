// The kernels that are measured, in the shapes of ZAYA1-8B. A group prepares tensors in the store once for all its cases; `build` gives the graph of a case,
// its inputs, the operations that are timed, how often the graph holds them, and what one of them computes and must move between memory and processor.
import { costOf, createGraph, differentiate, ops, tensor } from "@zaya/kernels";
import { presets } from "@zaya/model";

const {
  hiddenSize: D,
  expertSize: F,
  numExperts: E,
  numQueryHeads: N,
  numKeyValueHeads: K,
  headDim: H,
  routerSize: R,
  vocabSize: V,
} = presets["zaya1-8b"];

/** A kernel that streams its weights or its cache rotates over so many bytes, which no cache holds. */
const streamedBytes = 200e6;
const elementBytes = { float32: 4, bfloat16: 2, int8: 1.016, int4: 0.578 };
const peaks = { float32: "float32", bfloat16: "bfloat16", int8: "int8", int4: "int8" };

/** Numbers between −1 and 1 that repeat after a prime number of them. */
function randomValues(length) {
  const block = Float32Array.from({ length: 65521 }, () => 2 * Math.random() - 1);
  const values = new Float32Array(length);
  for (let begin = 0; begin < length; begin += block.length) values.set(block.subarray(0, Math.min(block.length, length - begin)), begin);
  return values;
}

/** Reads a value so that what makes it is not dropped; the sum is a kernel of its own and not timed. */
function keep(graph, name, value) {
  graph.output(name, ops.sum(value));
}

/** x as products take it: with weights that are integers as integers too, made beforehand, as what comes before a product in the model makes them. */
const operand = (x, dtype) => (peaks[dtype] === "int8" ? ops.quantise(x) : x);
const operandBytes = (dtype) => (peaks[dtype] === "int8" ? 1.25 : 4);

const compute = (dtype) => ({ compute: dtype === "bfloat16" ? "bfloat16" : "float32" });
const copiesOf = (bytes) => Math.ceil(streamedBytes / bytes);

/** Products of x [M,columns] with weights [rows,columns]. */
function productGroup(name, dtype, rows, columns, tokens) {
  const copies = copiesOf(rows * columns * elementBytes[dtype]);
  const type = tensor(dtype, [rows, columns], "panels");
  return {
    name,
    cases: tokens.map((M) => ({ name: `M = ${M}`, dtype, peak: peaks[dtype], M })),
    async prepare(store) {
      const values = randomValues(rows * columns);
      const names = Array.from({ length: copies }, (_, i) => `w.${i}`);
      for (const each of names) await store.write(each, type, values);
      return names;
    },
    build(names, { M }) {
      const graph = createGraph();
      const x = operand(graph.input("x", tensor("float32", [M, columns])), dtype);
      const used = names.slice(0, M <= 64 ? names.length : 2);
      used.forEach((each, i) => {
        keep(graph, `y.${i}`, ops.linear(x, graph.read(each, type), compute(dtype)));
      });
      const bytes = rows * columns * elementBytes[dtype] + M * (4 * rows + operandBytes(dtype) * columns);
      return {
        graph,
        inputs: { x: randomValues(M * columns) },
        timed: ["linear"],
        count: used.length,
        flops: 2 * M * rows * columns,
        bytes,
      };
    },
  };
}

/** 512 tokens over 16 experts, from 4 to 69 each. */
const unevenCounts = [4, 9, 13, 17, 20, 23, 26, 29, 32, 35, 38, 41, 45, 52, 59, 69];

function groupedGroup(dtype) {
  const types = { gateUp: tensor(dtype, [E, 2 * F, D], "panels"), down: tensor(dtype, [E, D, F], "panels") };
  const tokens = unevenCounts.reduce((sum, n) => sum + n, 0);
  return {
    name: `experts of 512 tokens, ${E} uneven groups`,
    cases: [
      { name: "grouped product 4096 × 2048", dtype, peak: peaks[dtype], fused: false },
      { name: "whole experts", dtype, peak: peaks[dtype], fused: true },
    ],
    async prepare(store) {
      const values = randomValues(E * 2 * F * D);
      await store.write("gate_up", types.gateUp, values);
      await store.write("down", types.down, values.subarray(0, E * D * F));
    },
    build(_, { fused }) {
      const graph = createGraph();
      const x = operand(graph.input("x", tensor("float32", [tokens, D])), dtype);
      const inputs = { x: randomValues(tokens * D) };
      if (fused) {
        const index = graph.input("index", tensor("int32", [tokens]));
        const prob = graph.input("prob", tensor("float32", [tokens]));
        keep(graph, "y", ops.experts(x, index, prob, graph.read("gate_up", types.gateUp), graph.read("down", types.down), compute(dtype)));
        inputs.index = Int32Array.from(unevenCounts.flatMap((count, expert) => new Array(count).fill(expert)));
        inputs.prob = new Float32Array(tokens).fill(0.5);
      } else {
        const offsets = graph.input("offsets", tensor("int32", [E + 2]));
        keep(graph, "y", ops.groupedLinear(x, graph.read("gate_up", types.gateUp), offsets, compute(dtype)));
        inputs.offsets = Int32Array.from({ length: E + 2 }, (_, e) => unevenCounts.slice(0, e).reduce((sum, n) => sum + n, 0));
      }
      const parameters = E * 2 * F * D + (fused ? E * D * F : 0);
      return {
        graph,
        inputs,
        timed: [fused ? "experts" : "grouped_linear"],
        count: 1,
        flops: (2 * parameters * tokens) / E,
        bytes: parameters * elementBytes[dtype] + tokens * (operandBytes(dtype) * D + 4 * (fused ? D : 2 * F)),
      };
    },
  };
}

function attentionGroup(dtype) {
  const width = dtype === "int8" ? H + 4 : H;
  const pageBytes = 2 * K * 32 * width * (dtype === "int8" ? 1 : elementBytes[dtype]);
  const prompts = [512, 2048].map((tokens) => ({ name: `prompt of ${tokens}`, tokens, depth: 0 }));
  const steps = [4096, 16384].map((depth) => ({ name: `a token at ${depth}`, tokens: 1, depth }));
  const typesOf = (pages) => [tensor(dtype, [pages, K, width, 32]), tensor(dtype, [pages, K, 32, width])];
  const pagesOf = ({ depth, tokens }) => (depth + tokens + 31) >> 5;
  const cachesOf = (each) =>
    Array.from({ length: each.depth > 0 ? copiesOf(pagesOf(each) * pageBytes) : 1 }, (_, i) => `${each.name}.${i}`);

  /** A graph that appends so many random keys and values to the first `cached` in every cache of a case. */
  function append(each, cached, tokens) {
    const graph = createGraph();
    const k = graph.input("k", tensor("float32", [tokens, K, H]));
    const pages = pagesOf(each);
    const ragged = {
      cu_seqlens: Int32Array.of(0, tokens),
      cached: Int32Array.of(cached),
      page_table: Int32Array.from({ length: pages }, (_, i) => i),
    };
    const places = [tensor("int32", [2]), tensor("int32", [1]), tensor("int32", [1, pages])].map((type, i) =>
      graph.input(Object.keys(ragged)[i], type),
    );
    const [keys, values] = typesOf(pages);
    const caches = cachesOf(each).map((name) => {
      const next = ops.kvAppend(graph.read(`${name}.keys`, keys), graph.read(`${name}.values`, values), k, k, ...places);
      graph.assign(`${name}.keys`, next.keys);
      graph.assign(`${name}.values`, next.values);
      return next;
    });
    return { graph, inputs: { k: randomValues(tokens * K * H), ...ragged }, caches, places };
  }

  return {
    name: "attention over cached keys and values",
    cases: [...prompts, ...steps].map((each) => ({ ...each, dtype, peak: dtype })),
    async prepare(store, cases, device) {
      for (const each of cases) {
        const [keys, values] = typesOf(pagesOf(each));
        for (const name of cachesOf(each)) {
          store.allocate(`${name}.keys`, keys);
          store.allocate(`${name}.values`, values);
        }
        if (each.depth === 0) continue;
        // Memory that was never written is one page of zeros, which the caches of the processor hold.
        const { graph, inputs } = append(each, 0, each.depth);
        await device.compile(graph, store).run({ inputs });
      }
    },
    build(_, each) {
      const { tokens, depth } = each;
      const { graph, inputs, caches, places } = append(each, depth, tokens);
      const q = graph.input("q", tensor("float32", [tokens, N, H]));
      caches.forEach(({ keys, values }, i) => {
        keep(graph, `o.${i}`, ops.pagedAttention(q, keys, values, ...places));
      });
      const pairs = tokens * depth + (tokens * (tokens + 1)) / 2;
      const bytes = ((depth + tokens) / 32) * pageBytes + 8 * tokens * N * H;
      return {
        graph,
        inputs: { ...inputs, q: randomValues(tokens * N * H) },
        timed: ["paged_attention"],
        count: caches.length,
        flops: 4 * N * H * pairs,
        bytes,
      };
    },
  };
}

/** The router of a layer, with matrices in bfloat16 that are multiplied in float32. */
const routerGroup = {
  name: "router",
  cases: [1, 8, 512].map((M) => ({ name: `M = ${M}`, dtype: "bfloat16", peak: "float32", M })),
  matrices: { downWeight: [R, D], fc1Weight: [R, R], fc2Weight: [R, R], outWeight: [E + 1, R] },
  vectors: { downBias: R, normWeight: R, fc1Bias: R, fc2Bias: R, balancing: E + 1 },
  parameters: R * D + 2 * R * R + (E + 1) * R,
  async prepare(store) {
    const layers = Array.from({ length: copiesOf(2 * this.parameters) }, (_, i) => `router.${i}`);
    for (const [name, shape] of Object.entries(this.matrices)) {
      const values = randomValues(shape[0] * shape[1]);
      for (const layer of layers) await store.write(`${layer}.${name}`, tensor("bfloat16", shape, "panels"), values);
    }
    return layers;
  },
  build(layers, { M }) {
    const graph = createGraph();
    const x = graph.input("x", tensor("float32", [M, D]));
    const vectors = Object.entries(this.vectors).map(([name, length]) => [name, graph.input(name, tensor("float32", [length]))]);
    for (const layer of layers) {
      const matrices = Object.entries(this.matrices).map(([name, shape]) => [
        name,
        graph.read(`${layer}.${name}`, tensor("bfloat16", shape, "panels")),
      ]);
      keep(graph, layer, ops.router(x, null, Object.fromEntries([...matrices, ...vectors])).prob);
    }
    const numbers = Object.entries(this.vectors).map(([name, length]) => [name, randomValues(length)]);
    return {
      graph,
      inputs: { x: randomValues(M * D), ...Object.fromEntries(numbers) },
      timed: ["router"],
      count: layers.length,
      flops: 2 * M * this.parameters,
      bytes: 2 * this.parameters + 4 * M * D,
    };
  },
};

/** Kernels that move vectors: a graph of eight of each, with what one moves. */
const vectorKernels = {
  "residual_rms_norm, 512 tokens": (graph) => mergeAndNorm(graph, 512),
  "residual_rms_norm, 1 token": (graph) => mergeAndNorm(graph, 1),
  "rms_norm, 512 tokens": (graph) => {
    const x = graph.input("x", tensor("float32", [512, D]));
    const weight = graph.input("weight", tensor("float32", [D]));
    for (let i = 0; i < vectorCopies; i++) keep(graph, `y.${i}`, ops.rmsNorm(x, weight, { eps: 1e-5 * (i + 1) }));
    return { inputs: { x: randomValues(512 * D), weight: randomValues(D) }, timed: ["rms_norm"], bytes: 8 * 512 * D };
  },
  [`top_k, 64 of ${V} logits`]: (graph) => {
    const inputs = {};
    for (let i = 0; i < vectorCopies; i++) {
      const logits = graph.input(`x.${i}`, tensor("float32", [1, V]));
      keep(graph, `y.${i}`, ops.topK(logits, graph.input("temperature", tensor("float32", [1])), 64).values);
      inputs[`x.${i}`] = randomValues(V);
    }
    return { inputs: { ...inputs, temperature: Float32Array.of(1) }, timed: ["top_k"], bytes: 4 * V };
  },
};
const vectorCopies = 8;

function mergeAndNorm(graph, tokens) {
  const type = tensor("float32", [tokens, D]);
  const vector = (name) => graph.input(name, tensor("float32", [D]));
  const merge = { yScale: vector("ys"), yBias: vector("yb"), hScale: vector("hs"), hBias: vector("hb") };
  const y = graph.input("y", type);
  let h = graph.input("h", type);
  for (let i = 0; i < vectorCopies; i++) {
    const next = ops.residualRmsNorm(y, h, vector("weight"), merge);
    h = next.h;
    keep(graph, `normed.${i}`, next.normed);
  }
  keep(graph, "stream", h);
  const vectors = Object.fromEntries(["ys", "yb", "hs", "hb", "weight"].map((name) => [name, randomValues(D)]));
  const inputs = { y: randomValues(tokens * D), h: randomValues(tokens * D), ...vectors };
  return { inputs, timed: ["residual_rms_norm"], bytes: 16 * tokens * D };
}

const vectorGroup = {
  name: "norms and the largest logits",
  cases: Object.keys(vectorKernels).map((name) => ({ name, dtype: "float32", peak: "float32" })),
  async prepare() {},
  build(_, { name }) {
    const graph = createGraph();
    return { graph, count: vectorCopies, flops: 0, ...vectorKernels[name](graph) };
  },
};

/** What is learned from at once: four documents. */
const trainingTokens = 2048;
const documents = Int32Array.from({ length: 5 }, (_, i) => (i * trainingTokens) / 4);
const bfloat16 = compute("bfloat16");

/** The loss of hidden states h [tokens,D] under weights w [classes,D], by itself and with its gradient. */
function crossEntropy(h, w, integers) {
  const [tokens, classes] = [h.type.shape[0], w.type.shape[0]];
  const labels = integers(Int32Array.from({ length: tokens }, (_, t) => (t * 5) % classes));
  keep(h.graph, "loss", ops.linearCrossEntropy(h, w, labels, bfloat16).loss);
  return [ops.linearCrossEntropySum(h, w, labels, bfloat16), h, w];
}

/** Kernels of a training step: what is differentiated and by what, given functions that make inputs; the operations of each row of the table. */
const trainingKernels = {
  attention: {
    rows: { forward: ["attention"], gradient: ["attention_grad"] },
    build(numbers, integers) {
      const [q, k, v] = [numbers(trainingTokens, N, H), numbers(trainingTokens, K, H), numbers(trainingTokens, K, H)];
      return [ops.attention(q, k, v, integers(documents), bfloat16).o, q, k, v];
    },
  },
  [`product, ${2 * F} × ${D}`]: {
    rows: { forward: ["linear"], gradient: ["linear_input_grad", "linear_weight_grad"] },
    build(numbers) {
      const [x, w] = [numbers(trainingTokens, D), numbers(2 * F, D)];
      return [ops.linear(x, w, bfloat16), x, w];
    },
  },
  [`grouped product, ${E} experts`]: {
    rows: { forward: ["grouped_linear"], gradient: ["grouped_linear_input_grad", "grouped_linear_weight_grad"] },
    build(numbers, integers) {
      const offsets = [0];
      for (const count of [...unevenCounts, 0]) offsets.push(offsets.at(-1) + (count * trainingTokens) / 512);
      const [x, w] = [numbers(trainingTokens, D), numbers(E, 2 * F, D)];
      return [ops.groupedLinear(x, w, integers(Int32Array.from(offsets)), bfloat16), x, w];
    },
  },
  "cross-entropy, 8192 classes": {
    rows: { forward: ["linear_cross_entropy"], "forward and gradient": ["linear_cross_entropy_sum"] },
    build: (numbers, integers) => crossEntropy(numbers(trainingTokens, D), numbers(8192, D), integers),
  },
  "cross-entropy of 512 tokens, 65536 classes": {
    rows: { "forward and gradient": ["linear_cross_entropy_sum"] },
    build: (numbers, integers) => crossEntropy(numbers(512, D), numbers(65536, D), integers),
  },
  "convolutions of CCA": {
    dtype: "float32",
    rows: { forward: ["cca_conv"], gradient: ["cca_conv_grad"] },
    build(numbers, integers) {
      const channels = (N + K) * H;
      const [z, ...weights] = [
        numbers(trainingTokens, channels),
        numbers(channels, 1, 2),
        numbers(channels),
        numbers(channels, H, 2),
        numbers(channels),
      ];
      return [ops.ccaConv(z, ...weights, integers(documents)), z, ...weights];
    },
  },
};

const trainingGroup = {
  name: `training on ${trainingTokens} tokens`,
  cases: Object.entries(trainingKernels).flatMap(([kernel, { rows, dtype = "bfloat16" }]) =>
    Object.entries(rows).map(([row, timed]) => ({ name: `${kernel}: ${row}`, kernel, timed, dtype, peak: dtype })),
  ),
  async prepare() {},
  build(_, { kernel, timed }) {
    const graph = createGraph();
    const inputs = {};
    const input = (dtype, shape, values) => {
      const name = `x.${Object.keys(inputs).length}`;
      inputs[name] = values;
      return graph.input(name, tensor(dtype, shape));
    };
    const [output, ...wanted] = trainingKernels[kernel].build(
      (...shape) => input("float32", shape, randomValues(shape.reduce((product, n) => product * n))),
      (values) => input("int32", [values.length], values),
    );
    keep(graph, "output", output);
    differentiate(output, wanted).forEach((gradient, i) => {
      keep(graph, `gradient.${i}`, gradient);
    });
    const { operations } = costOf(graph);
    const sum = (of) => timed.reduce((total, name) => total + operations.get(name)[of], 0);
    return { graph, inputs, timed, count: 1, flops: sum("flops"), bytes: sum("bytes") };
  },
};

/** AdamW on 16.8 million parameters; Muon on the gate and up matrices of 8 experts of width 512. */
const optimizerGroup = {
  name: "optimizers",
  cases: [
    { name: "adamw, 4096 × 4096", kernel: "adamw", shape: [4096, 4096], dtype: "float32", peak: "float32" },
    { name: "muon, 8 × 1024 × 512", kernel: "muon", shape: [8, 1024, 512], dtype: "bfloat16", peak: "bfloat16" },
  ],
  async prepare(store, cases) {
    for (const { kernel, shape } of cases) {
      const values = randomValues(shape.reduce((product, n) => product * n, 1));
      for (const name of ["p", "g", "m", "v"])
        await store.write(`${kernel}.${name}`, tensor("float32", shape), name === "v" ? values.map(Math.abs) : values);
    }
  },
  build(_, { kernel, shape }) {
    const graph = createGraph();
    const [p, g, m, v] = ["p", "g", "m", "v"].map((name) => graph.read(`${kernel}.${name}`, tensor("float32", shape)));
    const scale = graph.input("scale", tensor("float32", [1]));
    const elements = shape.reduce((product, n) => product * n, 1);
    const inputs = { scale: Float32Array.of(1) };
    if (kernel === "adamw") {
      const next = ops.adamw(p, g, m, v, scale, graph.input("hyper", tensor("float32", [6])));
      for (const name of ["p", "m", "v"]) graph.assign(`adamw.${name}`, next[name]);
      inputs.hyper = Float32Array.of(1e-3, 0.9, 0.95, 1e-8, 0.1, 10);
      return { graph, inputs, timed: ["adamw"], count: 1, flops: 14 * elements, bytes: 28 * elements };
    }
    const next = ops.muon(p, g, m, scale, graph.input("hyper", tensor("float32", [4])));
    graph.assign("muon.p", next.p);
    graph.assign("muon.m", next.momentum);
    inputs.hyper = Float32Array.of(1e-3, 0.95, 0.1, 1);
    // Five iterations of X Xᵀ, its square (both symmetric: half of the products) and A X.
    const [count, rows, columns] = shape;
    const short = Math.min(rows, columns);
    const long = Math.max(rows, columns);
    const flops = 5 * count * (short ** 2 * long + short ** 3 + 2 * short ** 2 * long);
    return { graph, inputs, timed: ["muon"], count: 1, flops, bytes: 20 * elements };
  },
};

const tokens = [1, 4, 16, 64, 256, 512, 2048];
export const groups = [
  ...Object.keys(elementBytes).map((dtype) => productGroup(`product with ${2 * F} × ${D} weights in ${dtype}`, dtype, 2 * F, D, tokens)),
  ...["bfloat16", "int8", "int4"].map(groupedGroup),
  productGroup(`head, ${V} × ${D}`, "int8", V, D, [1, 8]),
  ...["bfloat16", "int8"].map(attentionGroup),
  routerGroup,
  vectorGroup,
  trainingGroup,
  optimizerGroup,
];
