import { type DType, maxBytes, pageTokens, type TensorType } from "@zaya/kernels";
import type { ModelConfig } from "./config.js";
import { expectWholeNumber } from "./errors.js";
import { cacheTensors } from "./graph/inputs.js";
import { storedType } from "./graph/weights.js";
import { elements, type ParameterSpec, parameters } from "./parameters.js";

/**
 * The accounting of a model: from its configuration alone, no weights and no addon. Every number follows from the parameter list
 * and the formulas told with the fields. L layers, N query and K key/value heads of H dims, T the context in tokens.
 */
export interface Description {
  readonly kind: ModelConfig["kind"];
  /** Tokens that the figures below are for. */
  readonly context: number;
  readonly parameters: {
    readonly total: number;
    readonly withoutEmbedding: number;
    /** Used for one token, embedding and head left out: one expert a block. */
    readonly active: number;
    readonly embedding: number;
    /** The head's own matrix and bias; 0 where it is the embedding. */
    readonly head: number;
    /** Attention, the norm before it and the merge after it, all blocks. */
    readonly attention: number;
    /** Router with its balancing biases, all blocks. */
    readonly router: number;
    /** All experts of all blocks; in the dense twin its SwiGLU. */
    readonly experts: number;
    /** Norm before and merge after the experts, final norm, input scale. */
    readonly other: number;
  };
  /** Number of tensors of a checkpoint; the dense twin has no original layout. */
  readonly tensors: { readonly transformers: number; readonly original: number | null };
  /** Floating-point operations a token at this context. */
  readonly flops: {
    /** 6 · active + 6 · V · D + 12 · N · H · Σ keys, where a layer sees T/2 keys on average, with a window W < T: W − W²/2T. */
    readonly training: FlopsPerToken;
    /** A third of that: a prompt of this length, forward only, every token's logits. */
    readonly prefill: FlopsPerToken;
    /** The last token of the context: 2 · active + 2 · V · D + 4 · N · H · Σ min(T, W). */
    readonly decode: FlopsPerToken;
  };
  /** Bytes that one decoded token reads, alone in its batch, when this context is cached. */
  readonly decodeBytes: {
    readonly head: number;
    /** Attention (CCA) of all blocks: projections, convolutions, merges. */
    readonly attention: number;
    readonly router: number;
    /** One expert a block; a step of several tokens reads as many as they chose. */
    readonly experts: number;
    readonly other: number;
    /** Keys and values of the context: Σ min(T, W) · bytes of a token's keys and values in a layer. */
    readonly keysAndValues: number;
    readonly total: number;
  };
  /** Bytes that a sequence keeps between steps. */
  readonly state: {
    /** A token's keys and values in all layers: 2 · K · H · L · bytes of a cached number, and their scales where there are any. */
    readonly keysAndValuesPerToken: number;
    /** The last two columns before the convolutions, float32: L · 2 · (N + K) · H · 4. */
    readonly convolution: number;
    /** The last delayed value, float32: L · K · H / 2 · 4. */
    readonly delayedValue: number;
    /** A sequence of this context, its keys and values in whole pages of 32 tokens. */
    readonly total: number;
  };
  /** To the byte what a store holds; a step's arena, which depends on its limits, comes on top. */
  readonly memoryToServe: Memory;
  /** An estimate for one pass a step: the compiled step knows its arena exactly, and is up to a third larger in activations; one that accumulates keeps sums of gradients beside. */
  readonly memoryToTrain: Memory;
}

/** Floating-point operations a token, by what they are for. */
export interface FlopsPerToken {
  readonly blocks: number;
  readonly head: number;
  readonly attention: number;
  readonly total: number;
}

/** Bytes by purpose and the formula that gave them. */
export interface Memory {
  readonly formula: string;
  readonly parts: Readonly<Record<string, number>>;
  readonly total: number;
}

export interface DescribeOptions {
  /** Tokens of context. Default 4096, or the model's own limit where that is lower. */
  readonly context?: number | undefined;
  /** How each parameter is stored when serving, such as `runTypes("q4")`. Default: matrices as bfloat16 panels, all else float32. */
  readonly typeOf?: ((spec: ParameterSpec) => TensorType) | undefined;
  /** Type of cached keys and values. Default bfloat16. */
  readonly cacheDtype?: DType | undefined;
  /** Sequences served at once. Default 1. */
  readonly sequences?: number | undefined;
  /** Tokens of one forward and backward pass in training. Default 2048. */
  readonly batchTokens?: number | undefined;
}

/**
 * Counts a model's parameters, operations, bytes and memory.
 *
 * @throws CONFIG_INVALID, or INVALID_ARGUMENT for a context, sequences or batchTokens that is no whole number ≥ 0
 * @example describe(presets["zaya1-8b"]).parameters.active // 753609208
 */
export function describe(config: ModelConfig, options: DescribeOptions = {}): Description {
  const specs = parameters(config);
  const {
    context = Math.min(4096, config.maxPositions),
    typeOf = (spec) => storedType(spec, { dtype: "bfloat16", encoding: "panels" }),
    cacheDtype = "bfloat16",
    sequences = 1,
    batchTokens = 2048,
  } = options;
  for (const [name, value] of Object.entries({ context, sequences, batchTokens })) expectWholeNumber(name, value, 0);
  const size = (specs: readonly ParameterSpec[]): number => sum(specs.map(elements));
  const stored = (specs: readonly ParameterSpec[]): number => sum(specs.map((spec) => maxBytes(typeOf(spec))));

  const groups = groupOf(specs);
  const numExperts = config.kind === "zaya" ? config.numExperts : 1;
  const embedding = size(groups.embedding);
  const head = size(groups.head);
  const experts = size(groups.experts);
  const total = size(specs);
  const active = total - embedding - head - experts + experts / numExperts;

  const { numLayers: L, numQueryHeads: N, headDim: H } = config;
  const windows =
    config.kind === "zaya"
      ? config.layerTypes.map((type) => (type === "sliding" ? (config.slidingWindow as number) : Infinity))
      : new Array<number>(L).fill(Infinity);
  const averageKeys = sum(windows.map((window) => (window < context ? window - window ** 2 / (2 * context) : context / 2)));
  const lastKeys = sum(windows.map((window) => Math.min(window, context)));
  const headElements = config.vocabSize * config.hiddenSize;
  const flops = (each: number, attention: number): FlopsPerToken => {
    const parts = { blocks: each * active, head: each * headElements, attention };
    return { ...parts, total: sum(Object.values(parts)) };
  };

  const cached = cachedBytes(config, cacheDtype);
  const decode = {
    head: stored(config.tieWordEmbeddings ? [...groups.embedding, ...groups.head] : groups.head),
    attention: stored(groups.attention),
    router: stored(groups.router),
    experts: stored(groups.experts) / numExperts,
    other: stored(groups.other),
    keysAndValues: lastKeys * cached.keysAndValues,
  };
  const pages = Math.ceil(context / pageTokens) * pageTokens;
  const state = {
    keysAndValuesPerToken: L * cached.keysAndValues,
    convolution: config.kind === "zaya" ? L * cached.convolution : 0,
    delayedValue: config.kind === "zaya" ? L * cached.delayedValue : 0,
  };
  const stateTotal = state.keysAndValuesPerToken * pages + state.convolution + state.delayedValue;

  return {
    kind: config.kind,
    context,
    parameters: {
      total,
      withoutEmbedding: total - embedding - head,
      active,
      embedding,
      head,
      attention: size(groups.attention),
      router: size(groups.router),
      experts,
      other: size(groups.other),
    },
    tensors: {
      transformers: specs.length,
      original: config.kind === "zaya" ? specs.length + 2 * L * (numExperts - 1) : null,
    },
    flops: {
      training: flops(6, 12 * N * H * averageKeys),
      prefill: flops(2, 4 * N * H * averageKeys),
      decode: flops(2, 4 * N * H * lastKeys),
    },
    decodeBytes: { ...decode, total: sum(Object.values(decode)) },
    state: { ...state, total: stateTotal },
    memoryToServe: memory(
      `weights + ${sequences} sequences of ${context} tokens: keys and values in pages of 32 tokens, convolution columns, delayed values`,
      {
        weights: stored(specs),
        state: sequences * stateTotal,
      },
    ),
    memoryToTrain: memory(
      "4 bytes a parameter each for float32 weights, gradients and AdamW's two moments; activations: 4 bytes · tokens · (widths that the backward pass reads again in every block)",
      { weights: 4 * total, gradients: 4 * total, moments: 8 * total, activations: 4 * batchTokens * L * savedWidth(config) },
    ),
  };
}

/** Bytes of the state in one layer: of a token, and of a sequence. */
function cachedBytes(config: ModelConfig, dtype: DType): { keysAndValues: number; convolution: number; delayedValue: number } {
  const [layer] = cacheTensors(config, { numPages: 1, numSlots: 1, dtype });
  const { conv, delay, ...pages } = layer as NonNullable<typeof layer>;
  return {
    keysAndValues: sum(Object.values(pages).map(({ type }) => maxBytes(type))) / pageTokens,
    convolution: maxBytes(conv.type),
    delayedValue: maxBytes(delay.type),
  };
}

interface Groups {
  readonly embedding: ParameterSpec[];
  readonly head: ParameterSpec[];
  readonly attention: ParameterSpec[];
  readonly router: ParameterSpec[];
  readonly experts: ParameterSpec[];
  readonly other: ParameterSpec[];
}

function groupOf(specs: readonly ParameterSpec[]): Groups {
  const groups: Groups = { embedding: [], head: [], attention: [], router: [], experts: [], other: [] };
  for (const spec of specs) groups[groupName(spec)].push(spec);
  return groups;
}

function groupName(spec: ParameterSpec): keyof Groups {
  if (spec.kind === "embedding") return "embedding";
  if (spec.name.startsWith("lm_head.")) return "head";
  if (spec.name.includes(".mlp.gate.")) return "router";
  if (/\.mlp\./.test(spec.name)) return "experts";
  return /\.self_attn\.|\.input_layernorm\.|\.post_attention_residual_scale\./.test(spec.name) ? "attention" : "other";
}

/**
 * Numbers a token and block that the backward pass reads again: residual stream and what is normed, before attention and before the
 * experts; in attention q0 and k0, both convolutions' outputs, q and k, v, the output and its log-sum-exp; in the router its five vectors
 * and the probabilities; in the expert its input, gate and up, their product and its output.
 */
function savedWidth(config: ModelConfig): number {
  const { hiddenSize: D, numQueryHeads: N, numKeyValueHeads: K, headDim: H } = config;
  const stream = 4 * D;
  if (config.kind === "dense") return stream + (2 * N + 2 * K) * H + N + 3 * config.ffnSize + D;
  const attention = (4 * (N + K) + K + N) * H + N;
  return stream + attention + 5 * config.routerSize + config.numExperts + 1 + 2 * D + 3 * config.expertSize;
}

function memory(formula: string, parts: Record<string, number>): Memory {
  return { formula, parts, total: sum(Object.values(parts)) };
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, n) => total + n, 0);
}
