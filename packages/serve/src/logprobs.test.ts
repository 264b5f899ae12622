import { expect, test } from "vitest";
import { scoreToken } from "./logprobs.js";

const logits = Float32Array.from({ length: 300 }, (_, i) => Math.sin(i * 12.9898) * 8);

test("gives log-probabilities that sum to one", () => {
  const sum = [...logits.keys()].reduce((total, id) => total + Math.exp(scoreToken(logits, id, 0).logprob), 0);
  expect(sum).toBeCloseTo(1, 12);
});

test("lists the arg-max with exactly the float it has as the chosen token", () => {
  const [first] = scoreToken(logits, 0, 5).topLogprobs;
  expect(scoreToken(logits, first?.tokenId as number, 1).logprob).toBe(first?.logprob);
  expect(Math.max(...scoreToken(logits, 0, 5).topLogprobs.map((entry) => entry.logprob))).toBe(first?.logprob);
});

test("does not overflow on large logits", () => {
  const { logprob } = scoreToken(Float32Array.of(1e4, 1e4), 0, 0);
  expect(logprob).toBeCloseTo(-Math.log(2), 12);
});
