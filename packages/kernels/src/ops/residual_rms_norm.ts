import { elements } from "../activation.js";
import { expectShape } from "../check.js";
import { apply, type Value } from "../graph.js";
import type { Operation } from "../operation.js";
import { checkMerge, type MergeVectors, residualMerge, residualMergeGrad } from "./residual_merge.js";
import { rmsNorm, rmsNormGrad } from "./rms_norm.js";

/** out = residual_merge(y, h?, y_scale?, y_bias?, h_scale?, h_bias?), normed = rms_norm(out, weight): one pass over memory. */
export const residualRmsNormOperation: Operation = {
  name: "residual_rms_norm",
  attributes: ["eps"],
  infer: (inputs) => {
    const type = checkMerge("residual_rms_norm", inputs.slice(0, 6));
    expectShape("residual_rms_norm", "weight", inputs[6], type.shape.slice(-1));
    return [type, type];
  },
  decompose: ([y, h, yScale, yBias, hScale, hBias, weight], { eps = 0 }) => {
    const out = residualMerge(y as Value, h ?? null, {
      yScale: yScale ?? null,
      yBias: yBias ?? null,
      hScale: hScale ?? null,
      hBias: hBias ?? null,
    });
    return [out, rmsNorm(out, weight as Value, { eps })];
  },
  gradient: ({ node, inputs, outputs: [out], gradients: [dout, dnormed] }) => {
    const weight = inputs[6] as Value;
    if (!dnormed) return [...(dout ? residualMergeGrad(dout, inputs) : inputs.slice(0, 6).map(() => null)), null];
    const norm = rmsNormGrad(dnormed, out as Value, weight, dout ?? null, node.attributes.eps ?? 0);
    return [...residualMergeGrad(norm.dx, inputs), norm.dweight];
  },
  flops: ({ inputs: [y, h] }) => (h ? 9 : 6) * elements(y),
  inPlace: [
    [0, 0],
    [0, 1],
  ],
};

/**
 * The end of one half-block and the norm that opens the next: h = (y + yBias) · yScale + (h + hBias) · hScale [T,D], and
 * normed = h · weight / sqrt(mean(h²) + eps). `h` may be null, missing scales are 1 and missing biases 0.
 */
export function residualRmsNorm(
  y: Value,
  h: Value | null,
  weight: Value,
  { eps = 1e-5, yScale = null, yBias = null, hScale = null, hBias = null }: MergeVectors & { eps?: number } = {},
): { h: Value; normed: Value } {
  const [out, normed] = apply(residualRmsNormOperation, [y, h, yScale, yBias, hScale, hBias, weight], { eps });
  return { h: out as Value, normed: normed as Value };
}
