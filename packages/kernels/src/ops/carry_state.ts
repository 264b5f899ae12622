import { expectRank, expectShape, floats } from "../check.js";
import { apply, type Value } from "../graph.js";
import type { Operation } from "../operation.js";
import { type Dimension, plus } from "../types.js";

/**
 * state' [slots,n,W]: row slots[s] becomes row s of the tail. state [slots,n,W], tail [S,n,W], cu_seqlens [S+1], slots [S].
 * Sequences without rows and other slots stay as they are.
 */
export const carryStateOperation: Operation = {
  name: "carry_state",
  infer: ([state, tail, cuSeqlens, slots]) => {
    const carried = expectRank("carry_state", "state", state, 3, [...floats, "int32", "int8"]);
    const sequences = plus(expectRank("carry_state", "cu_seqlens", cuSeqlens, 1, ["int32"]).shape[0] as Dimension, -1);
    expectShape("carry_state", "tail", expectRank("carry_state", "tail", tail, 3, [carried.dtype]), [sequences, ...carried.shape.slice(1)]);
    expectShape("carry_state", "slots", expectRank("carry_state", "slots", slots, 1, ["int32"]), [sequences]);
    return [carried];
  },
  // Only the rows of the tail are written.
  bytes: ({ inputs: [, tail] }, _) => 8 * (tail ?? []).reduce((n, d) => n * d, 1),
  inPlace: [[0, 0]],
  mayRefuse: true,
};

/** The state [slots,n,W] with the rows that {@link sequenceTail} found [S,n,W]. Two sequences must not share a slot. */
export function carryState(state: Value, tail: Value, cuSeqlens: Value, slots: Value): Value {
  return apply(carryStateOperation, [state, tail, cuSeqlens, slots])[0] as Value;
}
