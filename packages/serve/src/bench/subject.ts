import type { LimitMeter } from "@zaya/kernels";
import type { ModelConfig } from "@zaya/model";
import type { CacheDtype, ModelRunner } from "../model_runner.js";
import type { WeightProducts } from "../products.js";
import { chunkTokens } from "./bench_tests.js";
import { type DrawToken, stepBatch } from "./steps.js";

/** What is measured. */
export interface Subject {
  readonly runner: ModelRunner;
  readonly meter: LimitMeter;
  readonly draw: DrawToken;
  readonly cacheDtype: CacheDtype;
  readonly config: ModelConfig;
  readonly signal: AbortSignal | undefined;
}

/** The products with the matrices that most bytes are in: the experts, or the projections of a dense model. */
export function mainProduct({ products }: ModelRunner): WeightProducts {
  const of = (kind: WeightProducts["weights"]) => products.find(({ weights }) => weights === kind);
  return (of("experts") ?? of("projections")) as WeightProducts;
}

/** Reads a prompt of random tokens after `depth` cached ones. */
export async function runPrompt({ runner, draw, signal }: Subject, depth: number, tokens: number): Promise<void> {
  for (let done = 0; done < tokens; done += chunkTokens) {
    signal?.throwIfAborted();
    await runner.run(stepBatch(runner.limits, 1, depth + done, Math.min(chunkTokens, tokens - done), draw));
  }
}
