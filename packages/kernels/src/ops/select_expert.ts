import { elements, expectActivation } from "../activation.js";
import { expectRank, expectShape, floats } from "../check.js";
import { apply, type Value } from "../graph.js";
import type { Operation } from "../operation.js";
import { type Dimension, tensor } from "../types.js";

/**
 * index [T] = argmax over c of p[t,c] + bias[c], of equal values the lowest c; prob [T] = p[t, index[t]] without the bias.
 * p [T,C], bias [C]. The bias has no gradient: it is balanced (balance_grad).
 */
export const selectExpertOperation: Operation = {
  name: "select_expert",
  infer: ([p, bias]) => {
    const type = expectRank("select_expert", "p", expectActivation("select_expert", "p", p), 2);
    expectShape("select_expert", "bias", bias, type.shape.slice(1), floats);
    const tokens = [type.shape[0] as Dimension];
    return [tensor("int32", tokens), tensor(type.dtype, tokens)];
  },
  gradient: ({ inputs: [p], outputs: [index], gradients: [, dprob] }) => [
    p && index && dprob ? (apply(selectExpertGradOperation, [dprob, index, p])[0] as Value) : null,
    null,
  ],
  flops: ({ inputs: [p] }) => elements(p),
};

/** dp [T,C]: dprob[t] at index[t], 0 elsewhere. The elements of p are not read. */
export const selectExpertGradOperation: Operation = {
  name: "select_expert_grad",
  infer: ([dprob, index, p]) => {
    const type = expectRank("select_expert_grad", "p", expectActivation("select_expert_grad", "p", p), 2);
    expectShape("select_expert_grad", "dprob", dprob, type.shape.slice(0, 1), [type.dtype]);
    expectShape("select_expert_grad", "index", index, type.shape.slice(0, 1), ["int32"]);
    return [type];
  },
};

/** The class each token goes to, int32 [T], and its probability [T]. */
export function selectExpert(p: Value, bias: Value): { index: Value; prob: Value } {
  const [index, prob] = apply(selectExpertOperation, [p, bias]);
  return { index: index as Value, prob: prob as Value };
}
