import { describe, test } from "vitest";
import { checkCase } from "../operation_cases.js";
import { balanceGrad } from "./balance_grad.js";

describe("balance_grad", () => {
  for (const [name, counts, expected] of [
    ["is each expert's share less the fair one, and 0 for the skip class", [4, 0, 2, 2], [0.5 - 1 / 3, -1 / 3, 0.25 - 1 / 3, 0]],
    ["is 0 when all have their share", [3, 3, 0], [0, 0, 0]],
    ["is 0 before any token", [0, 0, 0], [0, 0, 0]],
  ] as const) {
    test(name, async () => {
      await checkCase({
        inputs: { counts: { shape: [counts.length], data: counts } },
        build: ({ counts }) => ({ gradient: balanceGrad(counts!) }),
        expected: { gradient: expected },
      });
    });
  }
});
