import { expect, test } from "vitest";
import { type DType, type TensorType, tensor } from "../types.js";
import { registry } from "./registry.js";

interface Operand {
  readonly type: TensorType;
  /** Element types that the kernel does not read here. */
  readonly wrong: readonly DType[];
}
const operand = (dtype: DType, ...wrong: DType[]) => {
  return (...shape: number[]): Operand => ({ type: tensor(dtype, shape), wrong });
};
/** What the kernel computes in: its type is that of the result. */
const x = operand("float32", "bfloat16", "int32", "int8");
/** Read as the type of another operand. */
const like = operand("float32", "bfloat16", "float64", "int32", "int8");
/** Weights and vectors that the kernel converts, and floats that it moves as bytes. */
const w = operand("float32", "int32", "int8");
/** Moved as bytes, or read for its shape. */
const any = operand("float32");
const pages = operand("float32", "float64", "int32");
const integers = operand("int32", "float32", "float64", "int8");

const convolutions = [w(8, 1, 2), w(8), w(8, 4, 2), w(8)];
const merge = [x(3, 8), like(3, 8), w(8), w(8), w(8), w(8)];
const calls: Record<string, { operands: readonly Operand[]; attributes?: Record<string, number> }> = {
  adamw: { operands: [x(8), like(8), like(8), like(8), w(1), w(6)] },
  add: { operands: [x(3, 8), like(3, 8)] },
  attention_grad: {
    operands: [like(3, 2, 4), x(3, 2, 4), like(3, 1, 4), like(3, 1, 4), like(3, 2, 4), like(3, 2), integers(2)],
  },
  attention: { operands: [x(3, 2, 4), like(3, 1, 4), like(3, 1, 4), integers(2)] },
  balance_grad: { operands: [x(5)] },
  carry_state: { operands: [any(2, 1, 8), like(1, 1, 8), integers(2), integers(1)] },
  cast: { operands: [w(3)], attributes: { dtype: 1 } },
  cca_conv: { operands: [x(3, 8), ...convolutions, integers(2), like(2, 2, 8), integers(1), integers(1)] },
  cca_conv_grad: { operands: [like(3, 8), x(3, 8), ...convolutions.slice(0, 3), integers(2)] },
  cca_heads: {
    operands: [
      x(3, 8),
      like(3, 2),
      like(3, 2),
      ...convolutions,
      w(1),
      integers(3),
      integers(2),
      like(2, 2, 8),
      like(2, 1, 2),
      integers(1),
      integers(1),
    ],
    attributes: { query_heads: 1, rotary: 2 },
  },
  cca_project: { operands: [x(3, 8), w(8, 8), w(4, 8), w(2, 8), w(2, 8)] },
  cca_qk: { operands: [x(3, 8), like(3, 8), w(1)], attributes: { query_heads: 1 } },
  cca_qk_grad: {
    operands: [like(3, 1, 4), like(3, 1, 4), x(3, 8), like(3, 8), w(1)],
    attributes: { query_heads: 1 },
  },
  clip_scale: { operands: [x(1), w(1)] },
  column_sum: { operands: [x(3, 8)] },
  combine: { operands: [x(3, 8), integers(3), like(3)] },
  combine_grad: { operands: [like(3, 8), x(3, 8), integers(3), like(3)] },
  concat: { operands: [x(3, 8), like(3, 4)] },
  embedding: { operands: [w(9, 8), integers(3)] },
  encode: { operands: [w(8, 8), like(8)], attributes: { dtype: 5 } },
  expert_sort: { operands: [integers(3)], attributes: { num_experts: 2 } },
  experts: { operands: [x(3, 8), integers(3), like(3), w(2, 8, 8), w(2, 8, 4)] },
  gather_rows: { operands: [any(3, 8), integers(2)] },
  gelu: { operands: [x(3, 8)] },
  gelu_grad: { operands: [like(3, 8), x(3, 8)] },
  grouped_linear_input_grad: { operands: [x(3, 4), w(2, 4, 8), integers(4)] },
  grouped_linear_weight_grad: { operands: [x(3, 4), like(3, 8), integers(4)] },
  grouped_linear: { operands: [x(3, 8), w(2, 4, 8), integers(4)] },
  kv_append: {
    operands: [pages(2, 1, 4, 32), pages(2, 1, 32, 4), x(3, 1, 4), like(3, 1, 4), integers(2), integers(1), integers(1, 2)],
  },
  linear: { operands: [x(3, 8), w(4, 8), like(4)] },
  linear_input_grad: { operands: [x(3, 4), w(4, 8)] },
  linear_weight_grad: { operands: [x(3, 4), like(3, 8)] },
  linear_cross_entropy_grad: { operands: [like(3), x(3, 8), w(9, 8), like(9), integers(3), like(3)] },
  linear_cross_entropy: { operands: [x(3, 8), w(9, 8), like(9), integers(3)] },
  linear_cross_entropy_sum: { operands: [x(3, 8), w(9, 8), like(9), integers(3)] },
  multiply: { operands: [x(3, 8), like(3, 8)] },
  muon: { operands: [like(4, 8), like(4, 8), like(4, 8), w(1), w(4)] },
  paged_attention: { operands: [x(3, 2, 4), pages(2, 1, 4, 32), pages(2, 1, 32, 4), integers(2), integers(1), integers(1, 2)] },
  quantise: { operands: [like(3, 8)] },
  random_sample: { operands: [w(65536), integers(4)], attributes: { rows: 2, columns: 8 } },
  residual_merge_grad: { operands: [like(3, 8), ...merge] },
  residual_merge: { operands: merge },
  residual_rms_norm: { operands: [...merge, w(8)] },
  rms_norm_grad: { operands: [like(3, 8), x(3, 8), w(8), like(3, 8)] },
  rms_norm: { operands: [x(3, 8), w(8)] },
  rope: { operands: [x(3, 2, 4), integers(3)], attributes: { rotary: 2, theta: 1e4 } },
  router: {
    operands: [x(3, 8), like(3, 4), w(4), w(4, 8), w(4), w(4), w(4, 4), w(4), w(4, 4), w(4), w(3, 4), w(3)],
  },
  scale: { operands: [x(3, 8), w(1)] },
  scatter_rows: { operands: [x(2, 8), integers(2), any(3, 8)] },
  select_expert_grad: { operands: [like(3), integers(3), x(3, 5)] },
  select_expert: { operands: [x(3, 5), w(5)] },
  sequence_tail: { operands: [x(3, 8), integers(2), like(2, 1, 8), integers(1), integers(1)] },
  slice_grad: { operands: [w(3, 4), any(3, 8)], attributes: { begin: 2, end: 6 } },
  softmax_grad: { operands: [like(3, 8), x(3, 8)] },
  softmax: { operands: [x(3, 8)] },
  sum_grad: { operands: [like(1), x(3, 8)] },
  sum: { operands: [x(3, 8)] },
  sum_of_squares: { operands: [x(3, 8)] },
  swiglu_grad: { operands: [like(3, 4), x(3, 8)] },
  swiglu: { operands: [x(3, 8)] },
  top_k: { operands: [like(3, 8), like(3)], attributes: { k: 2 } },
  value_delay_grad: { operands: [x(3, 8), integers(2)] },
  value_delay: { operands: [x(3, 8), like(3, 8), integers(2), like(2, 1, 8), integers(1), integers(1)] },
};

const shapesOnly = new Set(["fill", "slice", "split"]);
const operations = registry.filter(({ name }) => !shapesOnly.has(name));

test.each(operations.map((operation) => [operation.name, operation] as const))(
  "%s refuses element types that its kernel does not read",
  (name, { infer }) => {
    const { operands, attributes = {} } = calls[name] as (typeof calls)[string];
    const types = operands.map(({ type }) => type);
    expect(() => infer(types, attributes)).not.toThrow();
    operands.forEach(({ type, wrong }, i) => {
      for (const dtype of wrong) {
        const call = () => infer(types.with(i, { ...type, dtype }), attributes);
        expect(call, `input ${i} as ${dtype}`).toThrow(expect.objectContaining({ code: "SHAPE_MISMATCH" }));
      }
    });
  },
);

/** Inputs whose size nothing else tells: of lists of sequences, rows or experts, and what an operation is about. */
const free: Record<string, readonly number[]> = {
  attention: [3],
  attention_grad: [6],
  cca_conv_grad: [5],
  embedding: [0, 1],
  gather_rows: [0, 1],
  grouped_linear_weight_grad: [2],
  scale: [0],
  sum_grad: [1],
  value_delay_grad: [0, 1],
};
test.each(operations.map((operation) => [operation.name, operation] as const))("%s refuses operands of other sizes", (name, { infer }) => {
  const { operands, attributes = {} } = calls[name] as (typeof calls)[string];
  const types = operands.map(({ type }) => type);
  const taken = operands.flatMap(({ type }, i) => {
    const shape = type.shape.map((dimension) => 7 * (dimension as number));
    try {
      infer(types.with(i, { ...type, shape }), attributes);
      return [i];
    } catch (error) {
      expect(error).toMatchObject({ code: "SHAPE_MISMATCH" });
      return [];
    }
  });
  expect(taken).toEqual(free[name] ?? (types.length === 1 ? [0] : []));
});
