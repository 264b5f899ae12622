import { elements, expectActivation } from "../activation.js";
import { expectFloatWeight, expectRank, expectShape, floats } from "../check.js";
import { apply, type Value } from "../graph.js";
import type { Operation } from "../operation.js";
import { type Dimension, tensor } from "../types.js";
import { gelu } from "./gelu.js";
import { linear } from "./linear.js";
import { residualMerge } from "./residual_merge.js";
import { rmsNorm } from "./rms_norm.js";
import { selectExpert } from "./select_expert.js";
import { softmax } from "./softmax.js";

/**
 * The router of one layer, for generation: x [T,D], previous? [T,R], scale? [R], down_w [R,D], down_b [R], norm_w [R], fc1_w [R,R], fc1_b [R],
 * fc2_w [R,R], fc2_b [R], out_w [C,R], balancing [C] → r [T,R], index int32 [T], prob [T]; all products in float32.
 *   r = x down_wᵀ + down_b (+ previous · scale);   p = softmax(gelu(gelu(rms_norm(r) fc1_wᵀ + fc1_b) fc2_wᵀ + fc2_b) out_wᵀ)
 *   index = argmax of p + balancing,   prob = p[index]
 */
export const routerOperation: Operation = {
  name: "router",
  attributes: ["eps"],
  infer: ([x, previous, scale, downW, downB, normW, fc1W, fc1B, fc2W, fc2B, outW, balancing]) => {
    const type = expectRank("router", "x", expectActivation("router", "x", x), 2);
    const [T, D] = type.shape as [Dimension, Dimension];
    const [R = 0] = expectFloatWeight("router", "down_w", downW, 2).shape;
    const [C = 0] = expectFloatWeight("router", "out_w", outW, 2).shape;
    expectShape("router", "down_w", downW, [R, D]);
    if (previous) expectShape("router", "previous", previous, [T, R], [type.dtype]);
    if (scale) expectShape("router", "scale", scale, [R], floats);
    expectShape("router", "fc1_w", expectFloatWeight("router", "fc1_w", fc1W, 2), [R, R]);
    expectShape("router", "fc2_w", expectFloatWeight("router", "fc2_w", fc2W, 2), [R, R]);
    expectShape("router", "out_w", outW, [C, R]);
    for (const [name, vector] of Object.entries({ down_b: downB, norm_w: normW, fc1_b: fc1B, fc2_b: fc2B }))
      expectShape("router", name, vector, [R], floats);
    expectShape("router", "balancing", balancing, [C], floats);
    return [tensor(type.dtype, [T, R]), tensor("int32", [T]), tensor(type.dtype, [T])];
  },
  decompose: (inputs, { eps = 0 }) => {
    const [x, previous, scale, downW, downB, normW, fc1W, fc1B, fc2W, fc2B, outW, balancing] = inputs;
    const layer = (input: Value, w: Value | null | undefined, bias: Value | null | undefined) =>
      linear(input, w as Value, { bias: bias ?? null });
    const projected = layer(x as Value, downW, downB);
    const r = previous ? residualMerge(projected, previous, { hScale: scale ?? null }) : projected;
    const normed = rmsNorm(r, normW as Value, { eps });
    const hidden = gelu(layer(gelu(layer(normed, fc1W, fc1B)), fc2W, fc2B));
    const { index, prob } = selectExpert(softmax(layer(hidden, outW, null)), balancing as Value);
    return [r, index, prob];
  },
  flops: ({ inputs: [x, , , downW, , , fc1W, , , , outW] }) =>
    2 * (x?.[0] ?? 0) * (elements(downW) + 2 * elements(fc1W) + elements(outW)) + 40 * (x?.[0] ?? 0) * (downW?.[0] ?? 0),
};

/** Weights of a router; see {@link routerOperation}. */
export interface RouterWeights {
  readonly downWeight: Value;
  readonly downBias: Value;
  readonly normWeight: Value;
  readonly fc1Weight: Value;
  readonly fc1Bias: Value;
  readonly fc2Weight: Value;
  readonly fc2Bias: Value;
  readonly outWeight: Value;
  readonly balancing: Value;
}

/**
 * The router's state r [T,R], and the class each token of x [T,D] goes to with its probability. `previous` is the state of the layer before
 * and its scale, or null in the first layer.
 *
 * @throws SHAPE_MISMATCH
 */
export function router(
  x: Value,
  previous: { readonly r: Value; readonly scale: Value } | null,
  weights: RouterWeights,
  { eps = 1e-5 }: { eps?: number } = {},
): { r: Value; index: Value; prob: Value } {
  const { downWeight, downBias, normWeight, fc1Weight, fc1Bias, fc2Weight, fc2Bias, outWeight, balancing } = weights;
  const matrices = [downWeight, downBias, normWeight, fc1Weight, fc1Bias, fc2Weight, fc2Bias, outWeight, balancing];
  const [r, index, prob] = apply(routerOperation, [x, previous?.r ?? null, previous?.scale ?? null, ...matrices], { eps });
  return { r: r as Value, index: index as Value, prob: prob as Value };
}
