import { type DescribeOptions, type Description, describe, type ModelConfig } from "@zaya/model";

/** Bytes that one step must read, by what they are. */
export type StepBytes = Description["decodeBytes"];

/**
 * What a step that decodes one token of each of `batch` sequences must read once: every matrix, of the experts those that are chosen (`distinctExperts`
 * a layer), and the keys and values of every sequence at the context that the description is for.
 */
export function decodeStepBytes({ decodeBytes }: Description, batch: number, distinctExperts: number): StepBytes {
  const { head, attention, router, other } = decodeBytes;
  const parts = {
    head,
    attention,
    router,
    experts: decodeBytes.experts * distinctExperts,
    other,
    keysAndValues: decodeBytes.keysAndValues * batch,
  };
  return { ...parts, total: Object.values(parts).reduce((sum, bytes) => sum + bytes, 0) };
}

/** The pieces that a step reads one after the other, in bytes: of every layer the attention, the router and the experts, then the head. What is small counts in with the head. */
export function piecesOf({ head, attention, router, experts, other, keysAndValues }: StepBytes, layers: number): number[] {
  const pieces = Array.from({ length: layers }, () => [(attention + keysAndValues) / layers, router / layers, experts / layers]).flat();
  return [...pieces, head + other].filter((bytes) => bytes >= 1);
}

/**
 * Operations of a prompt of `tokens` after `depth` cached ones: 2 · active parameters a token, the head once for the last token, and 4 · N · H for every
 * pair of a query and a key it sees.
 */
export function prefillFlops(config: ModelConfig, depth: number, tokens: number, options: DescribeOptions = {}): number {
  const attention = (context: number) => (context === 0 ? 0 : context * describe(config, { ...options, context }).flops.prefill.attention);
  const { blocks, head } = describe(config, options).flops.prefill;
  return blocks * tokens + head + attention(depth + tokens) - attention(depth);
}
