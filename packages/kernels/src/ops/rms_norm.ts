import { elements, expectActivation } from "../activation.js";
import { computed, expectShape, floats } from "../check.js";
import { apply, type Value } from "../graph.js";
import type { Operation } from "../operation.js";
import { type Dimension, tensor } from "../types.js";

/** y = x · weight / sqrt(mean(x²) + eps) over the last axis: x [T,D], weight [D] of any type. Statistics in the type of x. */
export const rmsNormOperation: Operation = {
  name: "rms_norm",
  attributes: ["eps"],
  infer: ([x, weight]) => {
    const y = expectActivation("rms_norm", "x", x);
    expectShape("rms_norm", "weight", weight, y.shape.slice(-1), floats);
    return [y];
  },
  gradient: ({ node, inputs: [x, weight], gradients: [dy] }) => {
    if (!x || !weight || !dy) return [null, null];
    const { dx, dweight } = rmsNormGrad(dy, x, weight, null, node.attributes.eps ?? 0);
    return [dx, dweight];
  },
  flops: ({ inputs: [x] }) => 4 * elements(x),
  inPlace: [[0, 0]],
};

/** dx (+ add), dweight from dy, x, weight, add?; the statistics are computed again. */
export const rmsNormGradOperation: Operation = {
  name: "rms_norm_grad",
  attributes: ["eps"],
  infer: ([dy, x, weight, add]) => {
    const type = expectActivation("rms_norm_grad", "x", x);
    expectShape("rms_norm_grad", "dy", dy, type.shape, [type.dtype]);
    expectShape("rms_norm_grad", "weight", weight, type.shape.slice(-1), floats);
    if (add) expectShape("rms_norm_grad", "add", add, type.shape, [type.dtype]);
    return [type, computed(tensor(type.dtype, [type.shape.at(-1) as Dimension]))];
  },
  flops: ({ inputs: [dy] }) => 11 * elements(dy),
  inPlace: [
    [0, 0],
    [0, 3],
    [0, 1],
  ],
};

/** The gradient of rms_norm; `add`, a gradient that reaches x by another path, is added to dx in the same pass. */
export function rmsNormGrad(dy: Value, x: Value, weight: Value, add: Value | null, eps: number): { dx: Value; dweight: Value } {
  const [dx, dweight] = apply(rmsNormGradOperation, [dy, x, weight, add], { eps });
  return { dx: dx as Value, dweight: dweight as Value };
}

/** RMSNorm over the last axis: x [T,D] · weight [D] / sqrt(mean(x²) + eps). */
export function rmsNorm(x: Value, weight: Value, { eps = 1e-5 }: { eps?: number } = {}): Value {
  return apply(rmsNormOperation, [x, weight], { eps })[0] as Value;
}
