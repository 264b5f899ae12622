import { elements } from "../activation.js";
import { expectShape, floats } from "../check.js";
import { fail } from "../errors.js";
import { apply, type Value } from "../graph.js";
import type { Operation } from "../operation.js";
import { tensor } from "../types.js";
import { quantise } from "./quantise.js";
import { checkMerge, type MergeVectors, residualMerge, residualMergeGrad } from "./residual_merge.js";
import { rmsNorm, rmsNormGrad } from "./rms_norm.js";

/** In which forms rows are given: as float32, as int8 rows (`quantise`), or both. */
export type RowForm = "float32" | "int8" | "both";
const forms: readonly RowForm[] = ["float32", "int8", "both"];

/**
 * out = residual_merge(y, h?, y_scale?, y_bias?, h_scale?, h_bias?), normed = rms_norm(out, weight), quantised = quantise(normed): one pass over memory.
 * form 0: out, normed. 1: out, quantised. 2: all three.
 */
export const residualRmsNormOperation: Operation = {
  name: "residual_rms_norm",
  attributes: ["eps", "form"],
  infer: (inputs, { form = 0 }) => {
    const type = checkMerge("residual_rms_norm", inputs.slice(0, 6));
    expectShape("residual_rms_norm", "weight", inputs[6], type.shape.slice(-1), floats);
    if (form > 0 && type.dtype !== "float32")
      fail("SHAPE_MISMATCH", `[residual_rms_norm] makes int8 rows of float32, not of ${type.dtype}`);
    return [type, ...(form === 1 ? [] : [type]), ...(form === 0 ? [] : [tensor("int8", type.shape, "rows")])];
  },
  decompose: ([y, h, yScale, yBias, hScale, hBias, weight], { eps = 0, form = 0 }) => {
    const out = residualMerge(y as Value, h ?? null, {
      yScale: yScale ?? null,
      yBias: yBias ?? null,
      hScale: hScale ?? null,
      hBias: hBias ?? null,
    });
    const normed = rmsNorm(out, weight as Value, { eps });
    return [out, ...(form === 1 ? [] : [normed]), ...(form === 0 ? [] : [quantise(normed)])];
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
 * normed = h · weight / sqrt(mean(h²) + eps). `h` may be null, missing scales are 1 and missing biases 0. `rows` is normed in the form that products take:
 * int8 rows where `form` asks for them, else normed itself; with "int8" normed is those too. Only "float32" has a gradient. @throws SHAPE_MISMATCH
 */
export function residualRmsNorm(
  y: Value,
  h: Value | null,
  weight: Value,
  {
    eps = 1e-5,
    yScale = null,
    yBias = null,
    hScale = null,
    hBias = null,
    form = "float32",
  }: MergeVectors & { eps?: number; form?: RowForm } = {},
): { h: Value; normed: Value; rows: Value } {
  const attributes = { eps, form: forms.indexOf(form) };
  const [out, normed, rows = normed] = apply(residualRmsNormOperation, [y, h, yScale, yBias, hScale, hBias, weight], attributes);
  return { h: out as Value, normed: normed as Value, rows: rows as Value };
}
