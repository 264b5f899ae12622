import { elements, expectActivation } from "../activation.js";
import { expectFixed, expectRank, expectShape, floats } from "../check.js";
import { ZayaError } from "../errors.js";
import { apply, type Value } from "../graph.js";
import type { Operation } from "../operation.js";
import { type Dimension, plus, tensor } from "../types.js";
import { ccaConv, expectConvolutions, expectState } from "./cca_conv.js";
import { ccaQk } from "./cca_qk.js";
import { reshape } from "./reshape.js";
import { rope } from "./rope.js";
import { sequenceTail } from "./sequence_tail.js";
import { valueDelay } from "./value_delay.js";

/**
 * Everything of compressed convolutional attention between the projections and the cache, for generation:
 *   q, k = rope(cca_qk(z, cca_conv(z))),  v = value_delay(current, delayed),  and what the next chunk needs of z and delayed.
 * z [T,C], current, delayed [T,W], depthwise_w, depthwise_b, grouped_w, grouped_b, temp [K], positions [T], cu_seqlens [S+1],
 * conv_state [slots,2,C], delay_state [slots,1,W], slots, cached [S] → q [T,N,H], k, v [T,K,H], conv_tail [S,2,C], delay_tail [S,1,W].
 */
export const ccaHeadsOperation: Operation = {
  name: "cca_heads",
  attributes: ["query_heads", "clamp_temp", "eps", "rotary", "theta"],
  infer: (inputs, { query_heads: N = 0, rotary = 0 }) => {
    const [z, current, delayed, depthwiseW, depthwiseB, groupedW, groupedB, temp, positions, cuSeqlens] = inputs;
    const [convState, delayState, slots, cached] = inputs.slice(10);
    const type = expectRank("cca_heads", "z", expectActivation("cca_heads", "z", z), 2);
    const [T = 0, C = 0] = type.shape;
    const H = expectConvolutions("cca_heads", type, [depthwiseW, depthwiseB, groupedW, groupedB]);
    const K = expectFixed("cca_heads", "key heads", expectRank("cca_heads", "temp", temp, 1, floats).shape[0]);
    if (N < 1 || K < 1 || N % K !== 0 || C !== (N + K) * H || (K * H) % 2 !== 0)
      throw new ZayaError("SHAPE_MISMATCH", `[cca_heads] ${N} query heads, ${K} key heads and groups of ${H} channels do not fit together`);
    if (rotary < 0 || rotary > H || rotary % 2 !== 0)
      throw new ZayaError("INVALID_ARGUMENT", `[cca_heads] expected an even number of rotary dimensions up to ${H}, received ${rotary}`);
    const width = (K * H) / 2;
    expectShape("cca_heads", "current", current, [T, width], [type.dtype]);
    expectShape("cca_heads", "delayed", delayed, [T, width], [type.dtype]);
    expectShape("cca_heads", "positions", expectRank("cca_heads", "positions", positions, 1, ["int32"]), [T]);
    const sequences = plus(expectRank("cca_heads", "cu_seqlens", cuSeqlens, 1, ["int32"]).shape[0] as Dimension, -1);
    expectState("cca_heads", type, cuSeqlens, [convState, slots, cached], [2, C]);
    expectState("cca_heads", type, cuSeqlens, [delayState, slots, cached], [1, width]);
    const result = (...shape: Dimension[]) => tensor(type.dtype, shape);
    return [result(T, N, H), result(T, K, H), result(T, K, H), result(sequences, 2, C), result(sequences, 1, width)];
  },
  decompose: (inputs, { query_heads: queryHeads = 0, clamp_temp = 0, eps = 0, rotary = 0, theta = 0 }) => {
    const [z, current, delayed, depthwiseW, depthwiseB, groupedW, groupedB] = inputs as readonly (Value | null)[] as Sevenfold;
    const [temp, positions, cuSeqlens, convState, delayState, slots, cached] = inputs.slice(7) as readonly Value[] as readonly [
      ...Sevenfold,
    ];
    const conv = { state: convState, slots, cached };
    const delay = { state: delayState, slots, cached };
    const mixed = ccaConv(z, depthwiseW, depthwiseB, groupedW, groupedB, cuSeqlens, conv);
    const { q, k } = ccaQk(z, mixed, temp, { queryHeads, clampTemp: clamp_temp === 1, eps });
    const rotate = (heads: Value) => rope(heads, positions, { rotary, theta });
    const v = reshape(valueDelay(current, delayed, cuSeqlens, delay), k.type.shape);
    return [rotate(q), rotate(k), v, sequenceTail(z, cuSeqlens, conv), sequenceTail(delayed, cuSeqlens, delay)];
  },
  flops: ({ inputs: [z, current, , , , groupedW] }) => elements(z) * (4 * (groupedW?.[1] ?? 0) + 15) + elements(current),
};

type Sevenfold = readonly [Value, Value, Value, Value, Value, Value, Value];

/** What {@link ccaHeads} takes: the projections of this step, the weights, the ragged axis and both carried states. */
export interface CcaHeadsInputs {
  /** [T,C], queries beside keys. */
  readonly z: Value;
  /** [T,W], values of this token. */
  readonly current: Value;
  /** [T,W], values for the next token. */
  readonly delayed: Value;
  readonly depthwiseWeight: Value;
  readonly depthwiseBias: Value;
  readonly groupedWeight: Value;
  readonly groupedBias: Value;
  /** [K] */
  readonly temp: Value;
  /** int32 [T] */
  readonly positions: Value;
  /** int32 [S+1] */
  readonly cuSeqlens: Value;
  /** [slots,2,C] */
  readonly convState: Value;
  /** [slots,1,W] */
  readonly delayState: Value;
  /** int32 [S] */
  readonly slots: Value;
  /** int32 [S], tokens of the sequence before this chunk. */
  readonly cached: Value;
}

/** Rotated queries [T,N,H] and keys [T,K,H], values [T,K,H], and the tails for {@link carryState}; see {@link ccaHeadsOperation}. */
export function ccaHeads(
  inputs: CcaHeadsInputs,
  {
    queryHeads,
    clampTemp = false,
    eps = 2 ** -23,
    ...angles
  }: { queryHeads: number; clampTemp?: boolean; eps?: number; rotary: number; theta: number },
): { q: Value; k: Value; v: Value; convTail: Value; delayTail: Value } {
  const { z, current, delayed, depthwiseWeight, depthwiseBias, groupedWeight, groupedBias, temp, positions, cuSeqlens } = inputs;
  const weights = [depthwiseWeight, depthwiseBias, groupedWeight, groupedBias, temp];
  const [q, k, v, convTail, delayTail] = apply(
    ccaHeadsOperation,
    [z, current, delayed, ...weights, positions, cuSeqlens, inputs.convState, inputs.delayState, inputs.slots, inputs.cached],
    { query_heads: queryHeads, clamp_temp: clampTemp ? 1 : 0, eps, ...angles },
  );
  return { q: q as Value, k: k as Value, v: v as Value, convTail: convTail as Value, delayTail: delayTail as Value };
}
