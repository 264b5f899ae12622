import { expect, test } from "vitest";
import { scoreToken } from "./logprobs.js";
import { rankLogits } from "./testing.js";

const logits = Float32Array.from({ length: 300 }, (_, i) => Math.sin(i * 12.9898) * 8);
const row = rankLogits(logits);

test("gives log-probabilities that sum to one", () => {
  const sum = [...logits.keys()].reduce((total, id) => total + Math.exp(scoreToken(row, id, 0).logprob), 0);
  expect(sum).toBeCloseTo(1, 12);
});

test("lists the arg-max with exactly the float it has as the chosen token", () => {
  const [first] = scoreToken(row, 0, 5).topLogprobs;
  expect(scoreToken(row, first?.tokenId as number, 1).logprob).toBe(first?.logprob);
  expect(Math.max(...scoreToken(row, 0, 5).topLogprobs.map((entry) => entry.logprob))).toBe(first?.logprob);
});

test("does not overflow on large logits", () => {
  const { logprob } = scoreToken(rankLogits(Float32Array.of(1e4, 1e4)), 0, 0);
  expect(logprob).toBeCloseTo(-Math.log(2), 12);
});
