import type { LogitRow } from "./runner.js";

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
 * log p(token) = (logit − max) − log Σ exp(logit − max). Every number of one row comes from the same subtractions, so the token's own log-probability
 * equals its entry among the top ones exactly. `top` is at most the number of ranked tokens.
 */
export function scoreToken(row: LogitRow, tokenId: number, top: number): ScoredToken {
  const { values, ids } = row;
  const normaliser = Math.log(row.sum);
  const logprob = (logit: number) => logit - (values[0] as number) - normaliser;
  const at = ids.indexOf(tokenId);
  return {
    tokenId,
    logprob: logprob(at < 0 ? (row.logits(tokenId, tokenId + 1)[0] as number) : (values[at] as number)),
    topLogprobs: Array.from(ids.subarray(0, top), (id, i) => ({ tokenId: id, logprob: logprob(values[i] as number) })),
  };
}
