import { expectActivation } from "../activation.js";
import { computed, expectFixed, expectRank, expectShape, expectUnquantised, expectWeight } from "../check.js";
import { fail } from "../errors.js";
import { apply, type Value } from "../graph.js";
import type { Operation } from "../operation.js";
import type { Dimension, TensorType } from "../types.js";
import { fill } from "./fill.js";
import { computeAttribute, type LinearOptions } from "./linear.js";
import { scale } from "./scale.js";
import { sum } from "./sum.js";

/**
 * Cross-entropy of the logits h wᵀ + bias, which are never all in memory:
 *   lse[t] = log Σ_v exp(logit[t,v]);  loss[t] = lse[t] − logit[t, labels[t]], 0 where the label is −1
 * h [T,D], w [V,D], bias [V], labels int32 [T] → loss [T] in nats, lse [T]. w as in `linear`, quantised where no gradient is wanted. Chunks of rows; the gradient computes them again
 * (`linear_cross_entropy_sum` does not).
 */
export const linearCrossEntropyOperation: Operation = {
  name: "linear_cross_entropy",
  attributes: ["compute"],
  infer: ([h, w, bias, labels]) => {
    const [T] = expectRank("linear_cross_entropy", "h", expectActivation("linear_cross_entropy", "h", h), 2).shape as [Dimension];
    const [V, D] = expectWeight("linear_cross_entropy", "w", w, 2).shape as [Dimension, Dimension];
    for (const [what, n] of [
      ["the number of classes", V],
      ["columns of w", D],
    ] as const)
      expectFixed("linear_cross_entropy", what, n);
    expectShape("linear_cross_entropy", "h", h, [T, D]);
    const each = computed(h as TensorType, [T]);
    if (bias) expectShape("linear_cross_entropy", "bias", bias, [V], [each.dtype]);
    expectShape("linear_cross_entropy", "labels", labels, [T], ["int32"]);
    return [each, each];
  },
  gradient: ({ node, inputs: [h, w, bias, labels], outputs: [, lse], gradients: [dloss, dlse], wants }) => {
    if (dlse) fail("UNSUPPORTED_OPERATION", "[linear_cross_entropy] has no gradient through lse; let the loss use its loss only");
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
  infer: ([dloss, h, w, bias, labels, lse], attributes) => {
    expectUnquantised("linear_cross_entropy_grad", "w", w);
    const [each] = linearCrossEntropyOperation.infer([h ?? null, w ?? null, bias ?? null, labels ?? null], attributes) as [TensorType];
    expectShape("linear_cross_entropy_grad", "dloss", dloss, each.shape, [each.dtype]);
    expectShape("linear_cross_entropy_grad", "lse", lse, each.shape, [each.dtype]);
    const dh = computed(h as TensorType);
    const dw = computed(h as TensorType, (w as TensorType).shape);
    return bias ? [dh, dw, computed(h as TensorType, bias.shape)] : [dh, dw];
  },
  flops: ({ inputs }) => 6 * (inputs[1]?.[0] ?? 0) * (inputs[2]?.[0] ?? 0) * (inputs[2]?.[1] ?? 0),
};

/** loss_sum [1] = Σ loss of linear_cross_entropy, and its gradient dh, dw, dbias (only with a bias), from logits that are made once. */
export const linearCrossEntropySumOperation: Operation = {
  name: "linear_cross_entropy_sum",
  attributes: ["compute"],
  infer: (inputs, attributes) => {
    const [h, w, bias, labels] = inputs as [TensorType, TensorType, TensorType | null, TensorType];
    const [loss] = linearCrossEntropyOperation.infer([h, w, bias, labels], attributes) as [TensorType];
    return [{ ...loss, shape: [1] }, ...linearCrossEntropyGradOperation.infer([loss, h, w, bias, labels, loss], attributes)];
  },
  decompose: ([h, w, bias, labels], attributes) => {
    const [loss, lse] = apply(linearCrossEntropyOperation, [h as Value, w as Value, bias ?? null, labels as Value], attributes) as [
      Value,
      Value,
    ];
    const gradients = apply(
      linearCrossEntropyGradOperation,
      [fill(loss, 1), h as Value, w as Value, bias ?? null, labels as Value, lse],
      attributes,
    );
    return [sum(loss), ...gradients];
  },
  gradient: ({ outputs: [, ...gradients], gradients: [dsum, ...others], wants }) => {
    if (others.some((gradient) => gradient)) fail("UNSUPPORTED_OPERATION", "[linear_cross_entropy_sum] has no second derivative");
    if (!dsum) return [];
    const isOne = dsum.node.name === "fill" && dsum.node.attributes.value === 1;
    const [dh, dw, dbias] = gradients.map((gradient, i) => (wants(i) ? (isOne ? gradient : scale(gradient, dsum)) : null));
    return [dh ?? null, dw ?? null, dbias ?? null, null];
  },
  flops: ({ inputs }) => 6 * (inputs[0]?.[0] ?? 0) * (inputs[1]?.[0] ?? 0) * (inputs[1]?.[1] ?? 0),
};

/**
 * Cross-entropy of the logits h wᵀ + bias with labels (int32 [T], −1 = ignore): loss in nats and log-sum-exp, both [T].
 * The gradient flows from `loss` only; `differentiate` refuses what reaches a loss through `lse`.
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

/**
 * Sum [1] of the losses of {@link linearCrossEntropy}, for training: its gradient is made in the same pass, so the logits are not made again
 * for it. Where no gradient is wanted, the sum of the losses is cheaper.
 */
export function linearCrossEntropySum(
  h: Value,
  w: Value,
  labels: Value,
  { bias = null, ...options }: LinearOptions & { readonly bias?: Value | null } = {},
): Value {
  return apply(linearCrossEntropySumOperation, [h, w, bias, labels], computeAttribute(options))[0] as Value;
}
