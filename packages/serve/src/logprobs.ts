import { largest } from "./sampler.js";

/** A token with the natural logarithm of its probability under the model, before temperature and cuts. */
export interface TokenLogprob {
  readonly tokenId: number;
  readonly logprob: number;
}

/** The token's log-probability, and the `top` most probable ones, largest first. */
export interface ScoredToken extends TokenLogprob {
  readonly topLogprobs: readonly TokenLogprob[];
}

/**
 * log p(token) = logit − log Σ exp(logit), in float64 over float32 logits. Every number of one row comes from the same subtraction, so the token's
 * own log-probability equals its entry among the top ones exactly.
 */
export function scoreToken(logits: Float32Array, tokenId: number, top: number): ScoredToken {
  const normaliser = logSumExp(logits);
  const logprob = (id: number) => (logits[id] as number) - normaliser;
  return {
    tokenId,
    logprob: logprob(tokenId),
    topLogprobs: largest(logits, top).map((id) => ({ tokenId: id, logprob: logprob(id) })),
  };
}

/** log Σ exp(x), summed in float64. */
function logSumExp(x: Float32Array): number {
  let max = Number.NEGATIVE_INFINITY;
  for (let i = 0; i < x.length; i++) max = Math.max(max, x[i] as number);
  let sum = 0;
  for (let i = 0; i < x.length; i++) sum += Math.exp((x[i] as number) - max);
  return max + Math.log(sum);
}
