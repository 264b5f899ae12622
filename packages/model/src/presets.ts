import type { DenseConfig, ZayaConfig } from "./config.js";

/**
 * Known models by name.
 *
 *   zaya1-8b    the published model
 *   zaya1-74b   the published preview. Its sizes are exact; window, rotary bases and context come from its checkpoint's own config.json
 *   zaya-tiny   for tests and first steps
 *   zaya-small  learns something in minutes on two cores
 *   zaya-512    the benchmark: width 512, 8 blocks, 8 experts
 *   zaya-1024   the same at twice the width
 *   dense-512   the dense twin of zaya-512: the same width, depth, heads and (within 1 %) the same parameters used for a token
 *
 * They are frozen. The vocabulary of the small ones is what the tokenizer makes it: `{ ...presets["zaya-small"], vocabSize: tokenizer.vocabSize }`.
 */
export const presets = frozen({
  "zaya1-8b": zaya({
    vocabSize: 262272,
    hiddenSize: 2048,
    numLayers: 40,
    numQueryHeads: 8,
    numKeyValueHeads: 2,
    headDim: 128,
    expertSize: 2048,
    numExperts: 16,
    routerSize: 256,
    rope: { full: { theta: 5e6, rotaryDim: 64 }, sliding: { theta: 1e4, rotaryDim: 64 } },
    maxPositions: 131072,
    eosTokenIds: [106],
  }),
  "zaya1-74b": zaya({
    vocabSize: 262272,
    hiddenSize: 4096,
    numLayers: 60,
    numQueryHeads: 16,
    numKeyValueHeads: 2,
    headDim: 128,
    expertSize: 4096,
    numExperts: 24,
    routerSize: 256,
    layerTypes: Array.from({ length: 60 }, (_, i) => (i % 2 === 0 ? "full" : "sliding")),
    slidingWindow: 4096,
    rope: { full: { theta: 5e6, rotaryDim: 64 }, sliding: { theta: 1e4, rotaryDim: 64 } },
    maxPositions: 131072,
    eosTokenIds: [106],
  }),
  "zaya-tiny": zaya({
    vocabSize: 1024,
    hiddenSize: 128,
    numLayers: 2,
    numQueryHeads: 4,
    numKeyValueHeads: 2,
    headDim: 32,
    expertSize: 128,
    numExperts: 4,
    routerSize: 32,
  }),
  "zaya-small": zaya({
    vocabSize: 4096,
    hiddenSize: 256,
    numLayers: 4,
    numQueryHeads: 8,
    numKeyValueHeads: 2,
    headDim: 32,
    expertSize: 512,
    numExperts: 8,
    routerSize: 64,
  }),
  "zaya-512": zaya({
    vocabSize: 8192,
    hiddenSize: 512,
    numLayers: 8,
    numQueryHeads: 4,
    numKeyValueHeads: 2,
    headDim: 64,
    expertSize: 512,
    numExperts: 8,
    routerSize: 128,
  }),
  "zaya-1024": zaya({
    vocabSize: 8192,
    hiddenSize: 1024,
    numLayers: 8,
    numQueryHeads: 8,
    numKeyValueHeads: 2,
    headDim: 64,
    expertSize: 1024,
    numExperts: 8,
    routerSize: 256,
  }),
  "dense-512": {
    kind: "dense",
    vocabSize: 8192,
    hiddenSize: 512,
    numLayers: 8,
    numQueryHeads: 4,
    numKeyValueHeads: 2,
    headDim: 64,
    ffnSize: 608,
    rope: { theta: 1e4, rotaryDim: 64 },
    rmsNormEps: 1e-5,
    tieWordEmbeddings: true,
    maxPositions: 2048,
    bosTokenId: 2,
    eosTokenIds: [1],
    padTokenId: 0,
  } satisfies DenseConfig as DenseConfig,
} as const);

export type PresetName = keyof typeof presets;

type ZayaSizes = Pick<
  ZayaConfig,
  "vocabSize" | "hiddenSize" | "numLayers" | "numQueryHeads" | "numKeyValueHeads" | "headDim" | "expertSize" | "numExperts" | "routerSize"
>;

/** What the family has in common, for a context of 2048 tokens unless told. */
function zaya(sizes: ZayaSizes & Partial<ZayaConfig>): ZayaConfig {
  const rope = { theta: 1e4, rotaryDim: sizes.headDim / 2 };
  return {
    kind: "zaya",
    layerTypes: new Array<"full">(sizes.numLayers).fill("full"),
    slidingWindow: null,
    rope: { full: rope, sliding: { ...rope } },
    rmsNormEps: 1e-5,
    tieWordEmbeddings: true,
    lmHeadBias: false,
    clampTemp: false,
    maxPositions: 2048,
    bosTokenId: 2,
    eosTokenIds: [1],
    padTokenId: 0,
    ...sizes,
  };
}

/** The same object, and all in it, made read-only. */
function frozen<T extends object>(value: T): T {
  for (const inner of Object.values(value)) if (typeof inner === "object" && inner !== null) frozen(inner);
  Object.freeze(value);
  return value;
}
