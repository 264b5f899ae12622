import { expectFixed, expectRank, expectShape } from "../check.js";
import { fail } from "../errors.js";
import { apply, type Value } from "../graph.js";
import type { Operation } from "../operation.js";
import { type Dimension, tensor } from "../types.js";

/** Logits that {@link topK} sums up together: those of one of its masses. */
export const logitChunk = 8192;

/**
 * The k largest logits of each row, and what the others weigh: logits [R,V], temperatures [R] → values [R,k], ids int32 [R,k], sums [R,2],
 * masses [R,⌈V/8192⌉]. Largest first, the lower id first where two are equal; sums are Σ exp(l − max) and Σ exp((l − max) / temperature), masses the
 * second one of each {@link logitChunk} logits.
 */
export const topKOperation: Operation = {
  name: "top_k",
  attributes: ["k"],
  infer: ([logits, temperatures], { k = 0 }) => {
    const { shape } = expectRank("top_k", "logits", logits, 2, ["float32"]);
    const rows = shape[0] as Dimension;
    const columns = expectFixed("top_k", "the number of logits in a row", shape[1]);
    expectShape("top_k", "temperatures", expectRank("top_k", "temperatures", temperatures, 1, ["float32"]), [rows]);
    if (!Number.isInteger(k) || k < 1 || k > columns)
      fail("INVALID_ARGUMENT", `[top_k] expected k from 1 to the ${columns} logits of a row, received ${k}`);
    return [
      tensor("float32", [rows, k]),
      tensor("int32", [rows, k]),
      tensor("float32", [rows, 2]),
      tensor("float32", [rows, Math.ceil(columns / logitChunk)]),
    ];
  },
};

/**
 * The k largest of each row of logits [R,V], with their ids and the sums that turn them into probabilities; see {@link topKOperation}.
 * NaN or +∞ in a row makes its sums NaN. There is no gradient.
 *
 * @param temperatures [R], what the second sum and the masses divide the logits by; 0 leaves it 1, and them 0
 * @throws SHAPE_MISMATCH, INVALID_ARGUMENT
 */
export function topK(logits: Value, temperatures: Value, k: number): { values: Value; ids: Value; sums: Value; masses: Value } {
  const [values, ids, sums, masses] = apply(topKOperation, [logits, temperatures], { k });
  return { values: values as Value, ids: ids as Value, sums: sums as Value, masses: masses as Value };
}
