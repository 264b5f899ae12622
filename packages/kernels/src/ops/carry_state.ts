import { expectActivation } from "../activation.js";
import { expectRank } from "../check.js";
import { apply, type Value } from "../graph.js";
import type { Operation } from "../operation.js";
import type { Dimension } from "../types.js";
import { expectState } from "./cca_conv.js";

/**
 * state' [slots,n,W]: row slots[s] becomes the last n rows of sequence s seen so far, oldest first, zeros before its first token.
 * state [slots,n,W], x [T,W], cu_seqlens [S+1], slots [S], cached [S]. Sequences without rows and other slots stay as they are.
 */
export const carryStateOperation: Operation = {
  name: "carry_state",
  infer: ([state, x, cuSeqlens, slots, cached]) => {
    const type = expectRank("carry_state", "x", expectActivation("carry_state", "x", x), 2);
    const carried = expectRank("carry_state", "state", state, 3);
    expectRank("carry_state", "cu_seqlens", cuSeqlens, 1, ["int32"]);
    expectState("carry_state", type, cuSeqlens, [state, slots, cached], [carried.shape[1] as Dimension, type.shape[1] as Dimension]);
    return [carried];
  },
  inPlace: [[0, 0]],
};

/** The state [slots,n,W] after the rows of x [T,W]: the last n rows of each sequence. Two sequences must not share a slot. */
export function carryState(state: Value, x: Value, cuSeqlens: Value, slots: Value, cached: Value): Value {
  return apply(carryStateOperation, [state, x, cuSeqlens, slots, cached])[0] as Value;
}
