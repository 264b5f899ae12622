import { expectActivation } from "../activation.js";
import { expectRank } from "../check.js";
import { apply, type Value } from "../graph.js";
import type { Operation } from "../operation.js";
import { type Dimension, plus, tensor } from "../types.js";
import { expectState, type SequenceState } from "./cca_conv.js";

/**
 * The last n rows of each sequence seen so far, oldest first: x [T,W], cu_seqlens [S+1], state [slots,n,W], slots, cached [S] → [S,n,W].
 * Before rows of x stand those of the state, before the first token zeros; a sequence without rows in this chunk gets zeros.
 */
export const sequenceTailOperation: Operation = {
  name: "sequence_tail",
  infer: ([x, cuSeqlens, state, slots, cached]) => {
    const type = expectRank("sequence_tail", "x", expectActivation("sequence_tail", "x", x), 2);
    const depth = expectRank("sequence_tail", "state", state, 3).shape[1] as Dimension;
    const { shape } = expectRank("sequence_tail", "cu_seqlens", cuSeqlens, 1, ["int32"]);
    const width = type.shape[1] as Dimension;
    expectState("sequence_tail", type, cuSeqlens, [state, slots, cached], [depth, width]);
    return [tensor(type.dtype, [plus(shape[0] as Dimension, -1), depth, width])];
  },
};

/** The last rows of each sequence after the rows of x [T,W], as many as `state` [slots,n,W] keeps: [S,n,W], for {@link carryState}. */
export function sequenceTail(x: Value, cuSeqlens: Value, { state, slots, cached }: SequenceState): Value {
  return apply(sequenceTailOperation, [x, cuSeqlens, state, slots, cached])[0] as Value;
}
