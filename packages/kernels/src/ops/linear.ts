import { expectActivation, expectRows } from "../activation.js";
import { computed, expectFloatWeight, expectRank, expectShape, expectUnquantised, expectWeight } from "../check.js";
import { fail } from "../errors.js";
import { apply, type Value } from "../graph.js";
import type { BoundShapes, Operation } from "../operation.js";
import { type Dimension, sameDimension, type TensorType } from "../types.js";
import { columnSum } from "./column_sum.js";

/**
 * y = x wᵀ + bias:  x [T,K], w [N,K], bias [N] → y [T,N], float32 (float64 for float64).
 *
 * compute 0: operands as they are, float32 accumulation. compute 1: both operands rounded to bfloat16, float32 accumulation. One
 * accumulation chain an output element, over k in order, whatever T is. w is plain or in panels; for quantised panels x may be int8 rows. gradient_compute is the compute of the
 * gradients.
 */
export const linearOperation: Operation = {
  name: "linear",
  attributes: ["compute", "gradient_compute"],
  infer: ([x, w, bias]) => {
    const { shape } = expectRows("linear", "x", x, [w]);
    const [N, K] = expectWeight("linear", "w", w, 2).shape as [Dimension, Dimension];
    if (!sameDimension(shape[1] as Dimension, K)) expectShape("linear", "x", x, [shape[0] as Dimension, K]);
    const y = computed(x as TensorType, [shape[0] as Dimension, N]);
    if (bias) expectShape("linear", "bias", bias, [N], [y.dtype]);
    return [y];
  },
  gradient: ({ node, inputs: [x, w, bias], gradients: [dy], wants }) => {
    if (!x || !w || !dy) return [];
    const attributes = { compute: node.attributes.gradient_compute ?? node.attributes.compute ?? 0 };
    return [
      wants(0) ? (apply(linearInputGradOperation, [dy, w], attributes)[0] as Value) : null,
      wants(1) ? (apply(linearWeightGradOperation, [dy, x], attributes)[0] as Value) : null,
      bias && wants(2) ? columnSum(dy) : null,
    ];
  },
  flops: ({ inputs, outputs }) => 2 * product(outputs[0]) * (inputs[0]?.[1] ?? 0),
};

/** dx = dy w:  dy [T,N], w [N,K] → [T,K]; compute as in linear. */
export const linearInputGradOperation: Operation = {
  name: "linear_input_grad",
  attributes: ["compute"],
  infer: ([dy, w]) => {
    const { shape } = expectRank("linear_input_grad", "dy", expectActivation("linear_input_grad", "dy", dy), 2);
    expectUnquantised("linear_input_grad", "w", w);
    const [N, K] = expectFloatWeight("linear_input_grad", "w", w, 2).shape as [Dimension, Dimension];
    expectShape("linear_input_grad", "dy", dy, [shape[0] as Dimension, N]);
    return [computed(dy as TensorType, [shape[0] as Dimension, K])];
  },
  flops: ({ inputs, outputs }) => 2 * product(outputs[0]) * (inputs[0]?.[1] ?? 0),
};

/** dw = dyᵀ x:  dy [T,N], x [T,K] → [N,K], summed over t in order; compute as in linear. */
export const linearWeightGradOperation: Operation = {
  name: "linear_weight_grad",
  attributes: ["compute"],
  infer: ([dy, x]) => {
    const { dtype, shape } = expectRank("linear_weight_grad", "dy", expectActivation("linear_weight_grad", "dy", dy), 2);
    const [T, N] = shape as [Dimension, Dimension];
    const [, K] = expectRank("linear_weight_grad", "x", x, 2, [dtype]).shape as [Dimension, Dimension];
    expectShape("linear_weight_grad", "x", x, [T, K]);
    return [computed(dy as TensorType, [N, K])];
  },
  flops: ({ inputs, outputs }) => 2 * product(outputs[0]) * (inputs[0]?.[0] ?? 0),
};

/** Number of elements of a bound shape. */
function product(shape: BoundShapes["outputs"][number] | undefined): number {
  return (shape ?? []).reduce((n, d) => n * d, 1);
}

/** What the operands of a matrix product are rounded to. */
export interface LinearOptions {
  readonly compute?: "float32" | "bfloat16";
}

/** The attribute that says what the operands of a matrix product are rounded to. */
export function computeAttribute({ compute = "float32" }: LinearOptions): { compute: number } {
  if (compute !== "float32" && compute !== "bfloat16")
    fail("INVALID_ARGUMENT", `compute is float32 or bfloat16, received ${String(compute)}`);
  return { compute: compute === "bfloat16" ? 1 : 0 };
}

export interface BiasedLinearOptions extends LinearOptions {
  readonly bias?: Value | null;
  /** What the operands of the gradients' products are rounded to. Default: as `compute`. */
  readonly gradientCompute?: LinearOptions["compute"];
}

/** x wᵀ (+ bias): x [T,K], w [N,K], bias [N] → [T,N]. @throws SHAPE_MISMATCH */
export function linear(
  x: Value,
  w: Value,
  { bias = null, compute = "float32", gradientCompute = compute }: BiasedLinearOptions = {},
): Value {
  const attributes = { ...computeAttribute({ compute }), gradient_compute: computeAttribute({ compute: gradientCompute }).compute };
  return apply(linearOperation, [x, w, bias], attributes)[0] as Value;
}
