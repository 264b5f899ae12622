import { type Graph, ops, tensor, type Value } from "@zaya/kernels";
import type { ModelConfig } from "../config.js";
import { type Forward, type ForwardOptions, forward } from "./forward.js";
import { type RaggedInputs, raggedInputs } from "./inputs.js";

/** A forward pass with its loss. */
export interface Loss {
  readonly inputs: RaggedInputs;
  readonly forward: Forward;
  /** [T], −log p of each label in nats; 0 where the label is −1. */
  readonly losses: Value;
  /** [1], their sum. The mean is left to whoever knows how many labels a whole batch has. With `training`, what to differentiate. */
  readonly lossSum: Value;
}

/**
 * Adds forward pass and cross-entropy to a graph, with inputs `ids`, `positions`, `cu_seqlens` and `labels` (int32 [T]: the token
 * that follows, −1 for none). Logits are never all in memory. With `training` the sum is made together with its gradient.
 */
export function buildLoss(
  graph: Graph,
  config: ModelConfig,
  options: ForwardOptions & { readonly maxTokens: number; readonly maxSequences: number; readonly training?: boolean },
): Loss {
  const inputs = raggedInputs(graph, options.maxTokens, options.maxSequences);
  const labels = graph.input("labels", tensor("int32", [inputs.T]));
  const model = forward(graph, config, inputs, options);
  const head = { bias: model.headBias, compute: model.compute };
  const { loss } = ops.linearCrossEntropy(model.hidden, model.head, labels, head);
  const lossSum = options.training ? ops.linearCrossEntropySum(model.hidden, model.head, labels, head) : ops.sum(loss);
  return { inputs, forward: model, losses: loss, lossSum };
}
