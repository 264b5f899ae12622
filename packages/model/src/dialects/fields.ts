import { z } from "zod";
import { type Rope, tokenCount, type ZayaConfig } from "../config.js";
import { fail } from "../errors.js";

/** What the dialects of config.json share: fields, and reading them with errors of one clear line. */

export const optionalBoolean = z.boolean().nullish();
export const tokens = {
  bos_token_id: z.int().min(0).nullish(),
  eos_token_id: z.union([z.int().min(0), z.array(z.int().min(0))]).nullish(),
  pad_token_id: z.int().min(0).nullish(),
};
export const RopeEntry = z.looseObject({
  rope_type: z.string().nullish(),
  type: z.string().nullish(),
  rope_theta: z.number().positive().nullish(),
  partial_rotary_factor: z.number().min(0).max(1).nullish(),
  factor: z.number().nullish(),
});
export type RopeEntry = z.infer<typeof RopeEntry>;
/** What must hold in every dialect: the parts of ZAYA that could be switched off in a config are always on here. */
export const fixed = {
  hidden_act: z.literal("silu", { error: "only silu is supported" }).nullish(),
  activation_func: z.literal("swiglu", { error: "only swiglu is supported" }).nullish(),
  normalization: z.literal("RMSNorm", { error: "only RMSNorm is supported" }).nullish(),
  gated_linear_unit: z.literal(true, { error: "only gated experts are supported" }).nullish(),
  scale_residual_merge: z.literal(true, { error: "only scaled residual merges are supported" }).nullish(),
  cca: z.literal(true, { error: "only compressed convolutional attention is supported" }).nullish(),
  zaya_use_eda: z.literal(true, { error: "only routers with depth averaging are supported" }).nullish(),
  zaya_use_mod: z.literal(true, { error: "only routers with the skip class are supported" }).nullish(),
  attention_bias: z.literal(false, { error: "biases in attention are not supported" }).nullish(),
  add_bias_linear: z.literal(false, { error: "biases in linear layers are not supported" }).nullish(),
  cca_time0: z.literal(2, { error: "only convolutions of width 2 are supported" }).nullish(),
  cca_time1: z.literal(2, { error: "only convolutions of width 2 are supported" }).nullish(),
  moe_router_topk: z.literal(1, { error: "only one expert a token is supported" }).nullish(),
  num_experts_per_tok: z.literal(1, { error: "only one expert a token is supported" }).nullish(),
  clamp_temp: optionalBoolean,
  lm_head_bias: optionalBoolean,
  tie_word_embeddings: optionalBoolean,
  max_position_embeddings: tokenCount.nullish(),
};

/** Rotary angles for each kind of layer, or one entry for all. */
export const RopeParameters = RopeEntry.extend({ hybrid: RopeEntry.nullish(), hybrid_sliding: RopeEntry.nullish() });
export const RopeScaling = z.union([z.literal(false), RopeEntry], { error: "expected false or an object" });

/** The rotary angles of a layer; only unscaled ones. */
export function rope(entry: RopeEntry | null | undefined, key: string, headDim: number, defaults: { theta: number; factor: number }): Rope {
  const type = entry?.rope_type ?? entry?.type ?? "default";
  const plain = type === "default" || (type === "linear" && (entry?.factor ?? 1) === 1);
  if (!plain) fail("CONFIG_INVALID", `config.json: ${key}: rope_type ${show(type)} is not supported, only "default"`);
  const rotaryDim = Math.floor(headDim * (entry?.partial_rotary_factor ?? defaults.factor));
  return { theta: entry?.rope_theta ?? defaults.theta, rotaryDim };
}

export function tokenIds(raw: {
  bos_token_id?: unknown;
  eos_token_id?: unknown;
  pad_token_id?: unknown;
}): Pick<ZayaConfig, "bosTokenId" | "eosTokenIds" | "padTokenId"> {
  const { bos_token_id, eos_token_id, pad_token_id } = z.object(tokens).parse(raw);
  return {
    bosTokenId: bos_token_id ?? null,
    eosTokenIds: eos_token_id === null || eos_token_id === undefined ? [] : [eos_token_id].flat(),
    padTokenId: pad_token_id ?? null,
  };
}

/** Parses or throws CONFIG_INVALID with the first problem in one line. */
export function read<T extends z.ZodType>(schema: T, value: unknown, what?: string): z.infer<T> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  return fail("CONFIG_INVALID", `config.json: ${what ?? firstProblem(result.error, value)}`);
}

/** The first thing that is wrong with a value: the key, what was expected and what came. */
export function firstProblem(error: z.core.$ZodError, value: unknown): string {
  const issue = error.issues[0];
  const key = issue?.path.join(".") ?? "";
  const received = valueAt(value, issue?.path ?? []);
  if (key && received === undefined) return `${key} is missing`;
  const problem = issue?.message.replace(/^Invalid (input|option|number): /, "").replace(/, received .*$/, "") ?? "is invalid";
  return key ? `${key}: ${problem}, received ${show(received)}` : problem;
}

function valueAt(value: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>(
    (inner, key) => (typeof inner === "object" && inner !== null ? (inner as Record<PropertyKey, unknown>)[key] : undefined),
    value,
  );
}

export function show(value: unknown): string {
  const text = value === undefined ? "nothing" : JSON.stringify(value);
  return text.length > 100 ? `${text.slice(0, 100)}…` : text;
}
