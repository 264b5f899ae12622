import { elements, expectActivation } from "../activation.js";
import { expectShape, floats } from "../check.js";
import { fail } from "../errors.js";
import { apply, type Value } from "../graph.js";
import type { Operation } from "../operation.js";
import { type Dimension, type TensorType, tensor } from "../types.js";

/** The vectors [D] of a merge; a missing scale is 1, a missing bias 0. */
export interface MergeVectors {
  readonly yScale?: Value | null;
  readonly yBias?: Value | null;
  readonly hScale?: Value | null;
  readonly hBias?: Value | null;
}

const vectors = ["y_scale", "y_bias", "h_scale", "h_bias"];

/** out = (y + y_bias) · y_scale + (h + h_bias) · h_scale: y, h? [T,D], the vectors? [D]. Without h its term is absent. */
export const residualMergeOperation: Operation = {
  name: "residual_merge",
  infer: (inputs) => [checkMerge("residual_merge", inputs)],
  gradient: ({ inputs, gradients: [dout] }) => (dout ? residualMergeGrad(dout, inputs) : inputs.map(() => null)),
  flops: ({ inputs: [y, h] }) => (h ? 5 : 2) * elements(y),
  inPlace: [
    [0, 0],
    [0, 1],
  ],
};

/** dy, then for each of h, y_scale, y_bias, h_scale, h_bias that is present its gradient. */
export const residualMergeGradOperation: Operation = {
  name: "residual_merge_grad",
  infer: ([dout, ...merged]) => {
    const type = checkMerge("residual_merge_grad", merged);
    const [, ...rest] = merged;
    expectShape("residual_merge_grad", "dout", dout, type.shape, [type.dtype]);
    const vector = tensor(type.dtype, [type.shape.at(-1) as Dimension]);
    return [type, ...rest.flatMap((input, i) => (input ? [i === 0 ? type : vector] : []))];
  },
  flops: ({ inputs: [dout] }) => 10 * elements(dout),
  inPlace: [
    [0, 0],
    [0, 1],
  ],
};

/** The type of the result, after checking y, h? and the vectors (inputs 0 to 5). */
export function checkMerge(operation: string, [y, h, ...rest]: readonly (TensorType | null)[]): TensorType {
  const type = expectActivation(operation, "y", y);
  if (h) expectShape(operation, "h", h, type.shape, [type.dtype]);
  else if (rest[2] || rest[3]) fail("SHAPE_MISMATCH", `[${operation}] takes h_scale and h_bias only with h`);
  vectors.forEach((name, i) => {
    const vector = rest[i];
    if (vector) expectShape(operation, name, vector, type.shape.slice(-1), floats);
  });
  return type;
}

/** Gradients of y, h and the four vectors, null for those that are absent. `inputs` may have more entries; they are ignored. */
export function residualMergeGrad(dout: Value, inputs: readonly (Value | null)[]): (Value | null)[] {
  const merged = inputs.slice(0, 6);
  const outputs = [...apply(residualMergeGradOperation, [dout, ...merged])];
  return merged.map((input) => (input ? (outputs.shift() as Value) : null));
}

/** (y + yBias) · yScale + (h + hBias) · hScale for y, h [T,D]; h may be null. */
export function residualMerge(
  y: Value,
  h: Value | null,
  { yScale = null, yBias = null, hScale = null, hBias = null }: MergeVectors = {},
): Value {
  return apply(residualMergeOperation, [y, h, yScale, yBias, hScale, hBias])[0] as Value;
}
