import { expectActivation, expectRows } from "../activation.js";
import { computed, expectFloatWeight, expectRank, expectShape, expectUnquantised, expectWeight } from "../check.js";
import { apply, type Value } from "../graph.js";
import { bytesOfRows, type Operation } from "../operation.js";
import { type Dimension, plus, type TensorType } from "../types.js";
import { computeAttribute, type LinearOptions } from "./linear.js";

/**
 * One linear a group of rows:  x [T,K], w [E,N,K], offsets int32 [E+2] → y [T,N].
 * Rows offsets[e] … offsets[e+1] are multiplied by w[e]; rows from offsets[E] on (the skip class) become zeros. Accumulation as linear.
 */
export const groupedLinearOperation: Operation = {
  name: "grouped_linear",
  attributes: ["compute"],
  infer: ([x, w, offsets]) => {
    const [E, N, K] = expectWeight("grouped_linear", "w", w, 3).shape as [Dimension, Dimension, Dimension];
    const [T] = expectRows("grouped_linear", "x", x, [w]).shape as [Dimension];
    expectShape("grouped_linear", "x", x, [T, K]);
    expectShape("grouped_linear", "offsets", offsets, [plus(E, 2)], ["int32"]);
    return [computed(x as TensorType, [T, N])];
  },
  gradient: ({ node, inputs: [x, w, offsets], gradients: [dy], wants }) => {
    if (!x || !w || !offsets || !dy) return [];
    return [
      wants(0) ? (apply(groupedLinearInputGradOperation, [dy, w, offsets], node.attributes)[0] as Value) : null,
      wants(1) ? (apply(groupedLinearWeightGradOperation, [dy, x, offsets], node.attributes)[0] as Value) : null,
      null,
    ];
  },
  bytes: (tensors) => bytesOfRows(tensors, tensors.inputs[0]?.[0] ?? 0, [1]),
  flops: ({ inputs, outputs }) => 2 * (outputs[0]?.[0] ?? 0) * (outputs[0]?.[1] ?? 0) * (inputs[0]?.[1] ?? 0),
};

/** dx = dy w[e], row by row of its group:  dy [T,N], w [E,N,K], offsets → [T,K]. */
export const groupedLinearInputGradOperation: Operation = {
  name: "grouped_linear_input_grad",
  attributes: ["compute"],
  infer: ([dy, w, offsets]) => {
    expectUnquantised("grouped_linear_input_grad", "w", w);
    const [E, N, K] = expectFloatWeight("grouped_linear_input_grad", "w", w, 3).shape as [Dimension, Dimension, Dimension];
    const [T] = expectRank("grouped_linear_input_grad", "dy", expectActivation("grouped_linear_input_grad", "dy", dy), 2).shape as [
      Dimension,
    ];
    expectShape("grouped_linear_input_grad", "dy", dy, [T, N]);
    expectShape("grouped_linear_input_grad", "offsets", offsets, [plus(E, 2)], ["int32"]);
    return [computed(dy as TensorType, [T, K])];
  },
  bytes: (tensors) => bytesOfRows(tensors, tensors.inputs[0]?.[0] ?? 0, [1]),
  flops: ({ inputs, outputs }) => 2 * (outputs[0]?.[0] ?? 0) * (outputs[0]?.[1] ?? 0) * (inputs[0]?.[1] ?? 0),
};

/** dw[e] = dyᵀ x over the rows of group e, in order; zeros for an empty group:  dy [T,N], x [T,K], offsets [E+2] → [E,N,K]. */
export const groupedLinearWeightGradOperation: Operation = {
  name: "grouped_linear_weight_grad",
  attributes: ["compute"],
  infer: ([dy, x, offsets]) => {
    const { dtype, shape } = expectRank("grouped_linear_weight_grad", "dy", expectActivation("grouped_linear_weight_grad", "dy", dy), 2);
    const [T, N] = shape as [Dimension, Dimension];
    const [, K] = expectRank("grouped_linear_weight_grad", "x", x, 2, [dtype]).shape as [Dimension, Dimension];
    expectShape("grouped_linear_weight_grad", "x", x, [T, K]);
    const [E2] = expectRank("grouped_linear_weight_grad", "offsets", offsets, 1, ["int32"]).shape as [Dimension];
    return [computed(dy as TensorType, [plus(E2, -2), N, K])];
  },
  flops: ({ inputs, outputs }) => 2 * (inputs[0]?.[0] ?? 0) * (outputs[0]?.[1] ?? 0) * (outputs[0]?.[2] ?? 0),
};

/** One linear a group of rows: x [T,K] sorted by group, w [E,N,K], offsets int32 [E+2] → [T,N]. @throws SHAPE_MISMATCH */
export function groupedLinear(x: Value, w: Value, offsets: Value, options: LinearOptions = {}): Value {
  return apply(groupedLinearOperation, [x, w, offsets], computeAttribute(options))[0] as Value;
}
