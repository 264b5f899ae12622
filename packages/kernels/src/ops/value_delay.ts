import { expectActivation } from "../activation.js";
import { expectFixed, expectRank, expectShape } from "../check.js";
import { ZayaError } from "../errors.js";
import { apply, type Value } from "../graph.js";
import type { Operation } from "../operation.js";
import { type Dimension, tensor } from "../types.js";
import { expectState, type SequenceState } from "./cca_conv.js";

/**
 * out[t] = concat(current[t], delayed[t−1]): current, delayed [T,W], cu_seqlens [S+1], state? [slots,1,W], slots?, cached? [S] → [T,2W].
 * Before a sequence's first row stands its state, or zeros.
 */
export const valueDelayOperation: Operation = {
  name: "value_delay",
  infer: ([current, delayed, cuSeqlens, state, slots, cached]) => {
    const type = expectRank("value_delay", "current", expectActivation("value_delay", "current", current), 2);
    expectShape("value_delay", "delayed", delayed, type.shape, [type.dtype]);
    expectRank("value_delay", "cu_seqlens", cuSeqlens, 1, ["int32"]);
    const width = expectFixed("value_delay", "columns", type.shape[1]);
    if (state) expectState("value_delay", type, cuSeqlens, [state, slots, cached], [1, width]);
    return [tensor(type.dtype, [type.shape[0] as Dimension, 2 * width])];
  },
  gradient: ({ inputs, gradients: [dout] }) => {
    const [, , cuSeqlens, state] = inputs;
    if (state)
      throw new ZayaError("UNSUPPORTED_OPERATION", "[value_delay] has no gradient through carried state; train on whole sequences");
    if (!dout) return inputs.map(() => null);
    return [...apply(valueDelayGradOperation, [dout, cuSeqlens ?? null]), null, null, null, null];
  },
};

/** dcurrent, ddelayed [T,W] from dout [T,2W] and cu_seqlens. */
export const valueDelayGradOperation: Operation = {
  name: "value_delay_grad",
  infer: ([dout, cuSeqlens]) => {
    const type = expectRank("value_delay_grad", "dout", expectActivation("value_delay_grad", "dout", dout), 2);
    expectRank("value_delay_grad", "cu_seqlens", cuSeqlens, 1, ["int32"]);
    const columns = expectFixed("value_delay_grad", "columns", type.shape[1]);
    if (columns % 2 !== 0)
      throw new ZayaError("SHAPE_MISMATCH", `[value_delay_grad] expected an even number of columns, received ${columns}`);
    const half = tensor(type.dtype, [type.shape[0] as Dimension, columns / 2]);
    return [half, half];
  },
};

/** concat(current[t], delayed[t−1]) within each sequence: two [T,W] → [T,2W]. With `state` [slots,1,W] sequences go on where they stopped. */
export function valueDelay(current: Value, delayed: Value, cuSeqlens: Value, { state, slots, cached }: Partial<SequenceState> = {}): Value {
  return apply(valueDelayOperation, [current, delayed, cuSeqlens, state ?? null, slots ?? null, cached ?? null])[0] as Value;
}
