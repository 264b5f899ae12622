import { computed, expectRank, expectShape } from "../check.js";
import { apply, type Value } from "../graph.js";
import type { Operation } from "../operation.js";
import type { Dimension, TensorType } from "../types.js";
import { computeAttribute, type LinearOptions } from "./linear.js";

/**
 * Cross-entropy of the logits h wᵀ + bias, which are never all in memory:
 *   lse[t] = log Σ_v exp(logit[t,v]);  loss[t] = lse[t] − logit[t, labels[t]], 0 where the label is −1
 * h [T,D], w [V,D], bias [V], labels int32 [T] → loss [T] in nats, lse [T]. Chunks of rows; the gradient computes them again.
 */
export const linearCrossEntropyOperation: Operation = {
  name: "linear_cross_entropy",
  attributes: ["compute"],
  infer: ([h, w, bias, labels]) => {
    const [T] = expectRank("linear_cross_entropy", "h", h, 2).shape as [Dimension];
    const [V, D] = expectRank("linear_cross_entropy", "w", w, 2).shape as [Dimension, Dimension];
    expectShape("linear_cross_entropy", "h", h, [T, D]);
    if (bias) expectShape("linear_cross_entropy", "bias", bias, [V]);
    expectShape("linear_cross_entropy", "labels", labels, [T]);
    const each = computed(h as TensorType, [T]);
    return [each, each];
  },
  gradient: ({ node, inputs: [h, w, bias, labels], outputs: [, lse], gradients: [dloss], wants }) => {
    if (!h || !w || !labels || !lse || !dloss) return [];
    const [dh, dw, dbias] = apply(linearCrossEntropyGradOperation, [dloss, h, w, bias ?? null, labels, lse], node.attributes);
    return [dh as Value, wants(1) ? (dw as Value) : null, bias && dbias ? dbias : null, null];
  },
  flops: ({ inputs }) => 2 * (inputs[0]?.[0] ?? 0) * (inputs[1]?.[0] ?? 0) * (inputs[1]?.[1] ?? 0),
};

/** dlogit = (softmax − one-hot) · dloss;  dh = dlogit w, dw = dlogitᵀ h, dbias = Σ dlogit (only with a bias). */
export const linearCrossEntropyGradOperation: Operation = {
  name: "linear_cross_entropy_grad",
  attributes: ["compute"],
  infer: ([, h, w, bias]) => {
    const dh = computed(h as TensorType);
    const dw = computed(h as TensorType, (w as TensorType).shape);
    return bias ? [dh, dw, computed(h as TensorType, bias.shape)] : [dh, dw];
  },
  flops: ({ inputs }) => 6 * (inputs[1]?.[0] ?? 0) * (inputs[2]?.[0] ?? 0) * (inputs[2]?.[1] ?? 0),
};

/**
 * Cross-entropy of the logits h wᵀ + bias with labels (int32 [T], −1 = ignore): loss in nats and log-sum-exp, both [T].
 * The gradient flows from `loss` only.
 */
export function linearCrossEntropy(
  h: Value,
  w: Value,
  labels: Value,
  { bias = null, ...options }: LinearOptions & { readonly bias?: Value | null } = {},
): { loss: Value; lse: Value } {
  const [loss, lse] = apply(linearCrossEntropyOperation, [h, w, bias, labels], computeAttribute(options));
  return { loss: loss as Value, lse: lse as Value };
}
