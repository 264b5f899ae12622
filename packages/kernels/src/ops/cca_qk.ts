import { elements, expectActivation } from "../activation.js";
import { expectFixed, expectRank, expectShape, floats } from "../check.js";
import { ZayaError } from "../errors.js";
import { apply, type Value } from "../graph.js";
import type { Operation } from "../operation.js";
import { type Dimension, type TensorType, tensor } from "../types.js";
import { fill } from "./fill.js";

const attributes = ["query_heads", "clamp_temp", "eps"];

/**
 * Queries and keys from the projections z [T,C] and their convolutions conv [T,C], C = (N+K)·H, temp [K]:
 *   q_mean[n] = (q0[n] + k0[n div G]) / 2, k_mean[k] = mean of q_mean over k's heads, unit(x) = x · sqrt(H) / max(|x|, eps)
 *   q = unit(conv[:N] + q_mean) [T,N,H],   k = unit(conv[N:] + k_mean) · temp[k] [T,K,H]   (exp(clamp(temp, 1e-7, 2)) with clamp_temp)
 */
export const ccaQkOperation: Operation = {
  name: "cca_qk",
  attributes,
  infer: ([z, conv, temp], { query_heads: N = 0 }) => {
    const type = expectRank("cca_qk", "z", expectActivation("cca_qk", "z", z), 2);
    expectShape("cca_qk", "conv", conv, type.shape, [type.dtype]);
    const K = expectFixed("cca_qk", "key heads", expectRank("cca_qk", "temp", temp, 1, floats).shape[0]);
    const channels = expectFixed("cca_qk", "channels", type.shape[1]);
    if (N < 1 || K < 1 || N % K !== 0 || channels % (N + K) !== 0) {
      throw new ZayaError("SHAPE_MISMATCH", `[cca_qk] ${N} query heads, ${K} key heads and ${channels} channels do not fit together`);
    }
    const heads = (count: number) => tensor(type.dtype, [type.shape[0] as Dimension, count, channels / (N + K)]);
    return [heads(N), heads(K)];
  },
  gradient: ({ node, inputs, outputs, gradients }) => {
    const [z, conv, temp] = inputs;
    if (!z || !conv || !temp) return [null, null, null];
    const [dq, dk] = gradients.map((gradient, i) => gradient ?? fill(outputs[i] as Value, 0));
    return apply(ccaQkGradOperation, [dq ?? null, dk ?? null, z, conv, temp], node.attributes);
  },
  flops: ({ inputs: [z] }) => 7 * elements(z),
};

/** dz, dconv, dtemp from dq, dk, z, conv, temp. */
export const ccaQkGradOperation: Operation = {
  name: "cca_qk_grad",
  attributes,
  infer: ([dq, dk, z, conv, temp], attributes) => {
    const [q, k] = ccaQkOperation.infer([z ?? null, conv ?? null, temp ?? null], attributes) as [TensorType, TensorType];
    expectShape("cca_qk_grad", "dq", dq, q.shape, [q.dtype]);
    expectShape("cca_qk_grad", "dk", dk, k.shape, [k.dtype]);
    const type = expectActivation("cca_qk_grad", "z", z);
    return [type, type, tensor(type.dtype, temp?.shape ?? [])];
  },
  flops: ({ inputs: [, , z] }) => 15 * elements(z),
};

/** Queries [T,N,H] and keys [T,K,H]: qk mean, L2 norm times sqrt(H), temperature; see {@link ccaQkOperation}. */
export function ccaQk(
  z: Value,
  conv: Value,
  temp: Value,
  { queryHeads, clampTemp = false, eps = 2 ** -23 }: { queryHeads: number; clampTemp?: boolean; eps?: number },
): { q: Value; k: Value } {
  const [q, k] = apply(ccaQkOperation, [z, conv, temp], { query_heads: queryHeads, clamp_temp: clampTemp ? 1 : 0, eps });
  return { q: q as Value, k: k as Value };
}
