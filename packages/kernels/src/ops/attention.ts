import { expectActivation } from "../activation.js";
import { expectFixed, expectRank, expectShape } from "../check.js";
import { fail, ZayaError } from "../errors.js";
import { apply, type Value } from "../graph.js";
import type { BoundShapes, Operation } from "../operation.js";
import type { TensorType } from "../types.js";
import { computeAttribute, type LinearOptions } from "./linear.js";

/**
 * Causal attention with grouped heads, each document by itself: query head n of q [T,N,H] reads key/value head n div (N/K) of
 * k, v [T,K,H]; cu_seqlens int32 [S+1]. window W > 0: a token sees itself and the W − 1 before it; 0: all before it.
 *   o [T,N,H] = softmax(scale · q·kᵀ + mask) v,   lse [T,N] = the log of the softmax's sum, which the gradient needs.
 */
export const attentionOperation: Operation = {
  name: "attention",
  attributes: ["scale", "window", "compute"],
  infer: ([q, k, v, cuSeqlens], { window }) => {
    const type = expectHeads("attention", q, k);
    expectWindow("attention", window);
    expectShape("attention", "v", v, k?.shape ?? [], [type.dtype]);
    expectRank("attention", "cu_seqlens", cuSeqlens, 1, ["int32"]);
    return [type, { ...type, shape: type.shape.slice(0, 2) }];
  },
  gradient: ({ node, inputs, outputs: [o, lse], gradients: [dO, dLse] }) => {
    if (dLse) throw new ZayaError("UNSUPPORTED_OPERATION", "[attention] has no gradient through lse; let the loss use o only");
    const [q, k, v, cuSeqlens] = inputs;
    if (!dO || !q || !k || !v || !cuSeqlens || !o || !lse) return [null, null, null, null];
    return [...apply(attentionGradOperation, [dO, q, k, v, o, lse, cuSeqlens], node.attributes), null];
  },
  flops: (shapes, { window }) => 4 * visiblePairs(shapes.inputs[0], shapes.inputs[3], window) * headElements(shapes, 0),
};

/** dq, dk, dv from do, q, k, v, o, lse, cu_seqlens; the probabilities are computed again from lse. */
export const attentionGradOperation: Operation = {
  name: "attention_grad",
  attributes: ["scale", "window", "compute"],
  infer: ([dO, q, k, v, o, lse, cuSeqlens]) => {
    const type = expectHeads("attention_grad", q, k);
    expectShape("attention_grad", "do", dO, type.shape, [type.dtype]);
    expectShape("attention_grad", "o", o, type.shape, [type.dtype]);
    expectShape("attention_grad", "lse", lse, type.shape.slice(0, 2), [type.dtype]);
    const key = expectShape("attention_grad", "v", v, k?.shape ?? [], [type.dtype]);
    expectRank("attention_grad", "cu_seqlens", cuSeqlens, 1, ["int32"]);
    return [type, key, key];
  },
  flops: (shapes, { window }) => 10 * visiblePairs(shapes.inputs[1], shapes.inputs[6], window) * headElements(shapes, 1),
};

/** Checks q [T,N,H] and k [T,K,H], where K divides N; the type of q. */
function expectHeads(operation: string, q: TensorType | null | undefined, k: TensorType | null | undefined): TensorType {
  const type = expectRank(operation, "q", expectActivation(operation, "q", q), 3);
  const [tokens = 0, , head = 0] = type.shape;
  const key = expectRank(operation, "k", k, 3, [type.dtype]);
  expectShape(operation, "k", key, [tokens, key.shape[1] ?? 0, head]);
  expectGroups(operation, type, key);
  return type;
}

/** Checks that the heads of keys [·,K,·] divide those of queries [T,N,H]. */
export function expectGroups(operation: string, q: TensorType, k: TensorType): void {
  const heads = expectFixed(operation, "the number of query heads", q.shape[1]);
  const keyHeads = expectFixed(operation, "the number of key heads", k.shape[1]);
  expectFixed(operation, "the head size", q.shape[2]);
  if (keyHeads < 1 || heads < 1 || heads % keyHeads !== 0) {
    throw new ZayaError("SHAPE_MISMATCH", `[${operation}] expected key heads to divide the ${heads} query heads, received ${keyHeads}`);
  }
}

/** @throws INVALID_ARGUMENT unless so many tokens can be seen, 0 being all */
export function expectWindow(operation: string, window = 0): void {
  if (!Number.isSafeInteger(window) || window < 0)
    fail("INVALID_ARGUMENT", `[${operation}] expected a window of a whole number of tokens ≥ 0, received ${window}`);
}

/** Pairs of a token and a key it sees. Document lengths are data, so they are counted as if all were equal. */
function visiblePairs(q: readonly number[] | null | undefined, cuSeqlens: readonly number[] | null | undefined, window = 0): number {
  const tokens = q?.[0] ?? 0;
  const length = tokens / Math.max(1, (cuSeqlens?.[0] ?? 2) - 1);
  const full = (length + 1) / 2;
  return tokens * (window > 0 && window < length ? window - (window * (window - 1)) / (2 * length) : full);
}

function headElements({ inputs }: BoundShapes, query: number): number {
  const [, heads = 0, head = 0] = inputs[query] ?? [];
  return heads * head;
}

/**
 * Causal attention over documents: q [T,N,H], k and v [T,K,H] with K dividing N, cuSeqlens int32 [S+1] → o [T,N,H] and lse [T,N].
 * The values of `pagedAttention` over float32 pages are those of float32 to the bit.
 *
 * @param options.scale factor of the scores, 1/√H unless given
 * @param options.window tokens a token sees, itself included; 0 (unless given) means all before it
 * @param options.compute what the operands of its products are rounded to: queries, keys, values and probabilities. With bfloat16 a key
 * that is not seen must still be finite, and AVX2, which has no such products, keeps float32.
 * @throws SHAPE_MISMATCH; INVALID_ARGUMENT for a window that is no whole number ≥ 0
 */
export function attention(
  q: Value,
  k: Value,
  v: Value,
  cuSeqlens: Value,
  {
    scale = 1 / Math.sqrt(expectFixed("attention", "the head size", q.type.shape[2])),
    window = 0,
    ...options
  }: LinearOptions & { scale?: number; window?: number } = {},
): { o: Value; lse: Value } {
  const [o, lse] = apply(attentionOperation, [q, k, v, cuSeqlens], { scale, window, ...computeAttribute(options) });
  return { o: o as Value, lse: lse as Value };
}
