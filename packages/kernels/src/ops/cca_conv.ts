import { elements, expectActivation } from "../activation.js";
import { expectFixed, expectFloatWeight, expectRank, expectShape, floats } from "../check.js";
import { ZayaError } from "../errors.js";
import { apply, type Value } from "../graph.js";
import type { Operation } from "../operation.js";
import { type Dimension, plus, type TensorType, tensor } from "../types.js";

/** What sequences carry from one chunk to the next: a tensor of rows, which row belongs to each sequence, and how much is in it. */
export interface SequenceState {
  /** [slots, n, W] */
  readonly state: Value;
  /** int32 [S] */
  readonly slots: Value;
  /** int32 [S], tokens of the sequence before this chunk; where 0 the state is not read. */
  readonly cached: Value;
}

/**
 * The two convolutions of CCA (kernel 2, causal, with bias, nothing between them), restarting at each sequence:
 *   y[t,c] = dw[c,0] z[t−1,c] + dw[c,1] z[t,c] + db[c];   out[t,c] = gb[c] + Σ_h gw[c,h,0] y[t−1,h] + gw[c,h,1] y[t,h]
 * z [T,C], dw [C,1,2], db [C], gw [C,H,2], gb [C], cu_seqlens [S+1], state? [slots,2,C], slots?, cached? [S] → [T,C]. z[−1] = z[−2] = 0.
 * gw may lie in panels, then as C/H matrices [C/H,H,2H].
 */
export const ccaConvOperation: Operation = {
  name: "cca_conv",
  infer: ([z, depthwiseW, depthwiseB, groupedW, groupedB, cuSeqlens, state, slots, cached]) => {
    const type = expectRank("cca_conv", "z", expectActivation("cca_conv", "z", z), 2);
    expectConvolutions("cca_conv", type, [depthwiseW, depthwiseB, groupedW, groupedB]);
    expectRank("cca_conv", "cu_seqlens", cuSeqlens, 1, ["int32"]);
    if (state) expectState("cca_conv", type, cuSeqlens, [state, slots, cached], [2, type.shape[1] as Dimension]);
    return [type];
  },
  gradient: ({ inputs, gradients: [dout] }) => {
    const [z, depthwiseW, depthwiseB, groupedW, , cuSeqlens, state] = inputs;
    if (state) throw new ZayaError("UNSUPPORTED_OPERATION", "[cca_conv] has no gradient through carried state; train on whole sequences");
    if (!z || !dout) return inputs.map(() => null);
    const outputs = apply(ccaConvGradOperation, [dout, z, depthwiseW ?? null, depthwiseB ?? null, groupedW ?? null, cuSeqlens ?? null]);
    return [...outputs, ...inputs.slice(5).map(() => null)];
  },
  flops: ({ inputs: [z, , , groupedW] }) => elements(z) * (4 * (groupedW?.[1] ?? 0) + 5),
};

/** dz, d_depthwise_w, d_depthwise_b, d_grouped_w, d_grouped_b from dout, z, depthwise_w, depthwise_b, grouped_w, cu_seqlens. */
export const ccaConvGradOperation: Operation = {
  name: "cca_conv_grad",
  infer: ([dout, z, depthwiseW, depthwiseB, groupedW, cuSeqlens]) => {
    const type = expectRank("cca_conv_grad", "z", expectActivation("cca_conv_grad", "z", z), 2);
    expectShape("cca_conv_grad", "dout", dout, type.shape, [type.dtype]);
    const [channels = 0] = type.shape.slice(1);
    expectConvolutions("cca_conv_grad", type, [
      depthwiseW,
      depthwiseB,
      expectRank("cca_conv_grad", "grouped_w", groupedW, 3, floats),
      tensor("float32", [channels]),
    ]);
    expectRank("cca_conv_grad", "cu_seqlens", cuSeqlens, 1, ["int32"]);
    expectShape("cca_conv_grad", "dout", dout, type.shape);
    const like = (weight: TensorType | null | undefined) => tensor(type.dtype, weight?.shape ?? []);
    return [type, like(depthwiseW), like(depthwiseB), like(groupedW), like(depthwiseB)];
  },
  flops: ({ inputs: [, z, , , groupedW] }) => elements(z) * (8 * (groupedW?.[1] ?? 0) + 15),
};

/** Checks the weights of both convolutions over z [T,C]; the channels of a group. */
export function expectConvolutions(
  operation: string,
  z: TensorType,
  [depthwiseW, depthwiseB, groupedW, groupedB]: readonly (TensorType | null | undefined)[],
): number {
  const channels = expectFixed(operation, "channels of z", z.shape[1]);
  const grouped = expectFloatWeight(operation, "grouped_w", groupedW, 3);
  const width = expectFixed(operation, "channels of a group", grouped.shape[1]);
  if (width < 1 || channels % width !== 0)
    throw new ZayaError("SHAPE_MISMATCH", `[${operation}] groups of ${width} do not divide ${channels} channels`);
  expectShape(operation, "depthwise_w", depthwiseW, [channels, 1, 2], floats);
  expectShape(operation, "depthwise_b", depthwiseB, [channels], floats);
  expectShape(operation, "grouped_w", grouped, grouped.encoding === "panels" ? [channels / width, width, 2 * width] : [channels, width, 2]);
  expectShape(operation, "grouped_b", groupedB, [channels], floats);
  return width;
}

/** Checks a carried state [slots, …rows] with its slots and cached of one entry for each sequence. */
export function expectState(
  operation: string,
  x: TensorType,
  cuSeqlens: TensorType | null | undefined,
  [state, slots, cached]: readonly (TensorType | null | undefined)[],
  rows: readonly Dimension[],
): void {
  const { dtype, shape } = expectRank(operation, "state", state, rows.length + 1, [x.dtype]);
  expectShape(operation, "state", tensor(dtype, shape), [shape[0] as Dimension, ...rows]);
  const sequences = plus(cuSeqlens?.shape[0] ?? 1, -1);
  expectShape(operation, "slots", expectRank(operation, "slots", slots, 1, ["int32"]), [sequences]);
  expectShape(operation, "cached", expectRank(operation, "cached", cached, 1, ["int32"]), [sequences]);
}

/** The two convolutions of CCA over z [T,C]; see {@link ccaConvOperation}. With `state` [slots,2,C] sequences go on where they stopped. */
export function ccaConv(
  z: Value,
  depthwiseWeight: Value,
  depthwiseBias: Value,
  groupedWeight: Value,
  groupedBias: Value,
  cuSeqlens: Value,
  { state, slots, cached }: Partial<SequenceState> = {},
): Value {
  const inputs = [z, depthwiseWeight, depthwiseBias, groupedWeight, groupedBias, cuSeqlens, state ?? null, slots ?? null, cached ?? null];
  return apply(ccaConvOperation, inputs)[0] as Value;
}
