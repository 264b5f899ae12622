import { z } from "zod";

/**
 * The normalised configurations. Every dialect of config.json becomes one of these (dialects.ts), and everything else in the
 * packages reads only these. Letters: D hiddenSize, L numLayers, N numQueryHeads, K numKeyValueHeads, H headDim, E numExperts,
 * F expertSize, R routerSize, V vocabSize.
 */

/** Sizes of a model: no product of two of them leaves the whole numbers that JavaScript counts exactly. */
export const count = z
  .int()
  .min(1)
  .max(2 ** 24);
/** Blocks of a model. Each is a list entry here and dozens of tensors elsewhere. */
export const layerCount = z.int().min(1).max(4096);
export const tokenCount = z
  .int()
  .min(1)
  .max(2 ** 31);
/** Experts of all blocks together: in the original layout each has tensors of its own. */
const mostExperts = 2 ** 18;
const tokenId = z.int().min(0);

export const Rope = z.strictObject({
  /** Base of the angles: position · theta^(−2j / rotaryDim). */
  theta: z.number().positive(),
  /** How many of a head's dims turn, from the first; the rest passes. Even. */
  rotaryDim: z.int().min(0).multipleOf(2),
});
export type Rope = z.infer<typeof Rope>;

const shared = {
  vocabSize: count,
  hiddenSize: count,
  numLayers: layerCount,
  numQueryHeads: count,
  numKeyValueHeads: count,
  headDim: count.multipleOf(2),
  rmsNormEps: z.number().positive(),
  /** The head is the embedding matrix. */
  tieWordEmbeddings: z.boolean(),
  /** Longest context the model was made for, in tokens. */
  maxPositions: tokenCount,
  bosTokenId: tokenId.nullable(),
  eosTokenIds: z.array(tokenId).readonly(),
  padTokenId: tokenId.nullable(),
};

/** A ZAYA model: compressed convolutional attention, one of E experts (or none) a token. */
export const ZayaConfig = z
  .strictObject({
    kind: z.literal("zaya"),
    ...shared,
    /** Inner width of an expert. */
    expertSize: count,
    numExperts: count,
    routerSize: count,
    layerTypes: z.array(z.enum(["full", "sliding"])).readonly(),
    /** Tokens a sliding layer sees, the current one included. */
    slidingWindow: tokenCount.nullable(),
    rope: z.strictObject({ full: Rope, sliding: Rope }),
    lmHeadBias: z.boolean(),
    /** Whether the key temperature is exp(clamp(temp, 1e-7, 2)) instead of temp. */
    clampTemp: z.boolean(),
  })
  .check((context) => {
    const config = context.value;
    const problem =
      headProblem(config) ?? layerProblem(config) ?? expertProblem(config) ?? rotaryProblem(config.headDim, Object.values(config.rope));
    if (problem) context.issues.push({ code: "custom", message: problem, input: config });
  });
export type ZayaConfig = z.infer<typeof ZayaConfig>;

/** The dense twin for comparisons: grouped-query attention and one SwiGLU, tensor for tensor a Llama. */
export const DenseConfig = z
  .strictObject({
    kind: z.literal("dense"),
    ...shared,
    /** Inner width of the SwiGLU. */
    ffnSize: count,
    rope: Rope,
  })
  .check((context) => {
    const problem = headProblem(context.value) ?? rotaryProblem(context.value.headDim, [context.value.rope]);
    if (problem) context.issues.push({ code: "custom", message: problem, input: context.value });
  });
export type DenseConfig = z.infer<typeof DenseConfig>;

export const ModelConfig = z.discriminatedUnion("kind", [ZayaConfig, DenseConfig]);
export type ModelConfig = z.infer<typeof ModelConfig>;

function headProblem(config: { numQueryHeads: number; numKeyValueHeads: number }): string | null {
  if (config.numQueryHeads % config.numKeyValueHeads === 0) return null;
  return `the number of query heads (${config.numQueryHeads}) must be a multiple of the number of key/value heads (${config.numKeyValueHeads})`;
}

function layerProblem(config: { numLayers: number; layerTypes: readonly string[]; slidingWindow: number | null }): string | null {
  if (config.layerTypes.length !== config.numLayers) {
    return `${config.layerTypes.length} layer types are given for ${config.numLayers} layers`;
  }
  if (config.layerTypes.includes("sliding") && config.slidingWindow === null)
    return "there are sliding layers, but no sliding window is given";
  return null;
}

function expertProblem({ numLayers, numExperts }: { numLayers: number; numExperts: number }): string | null {
  if (numLayers * numExperts <= mostExperts) return null;
  return `${numLayers} layers of ${numExperts} experts are too many, ${mostExperts} experts are the most`;
}

function rotaryProblem(headDim: number, ropes: readonly Rope[]): string | null {
  const rope = ropes.find(({ rotaryDim }) => rotaryDim > headDim);
  return rope ? `${rope.rotaryDim} dims of a head cannot turn, it has ${headDim}` : null;
}
