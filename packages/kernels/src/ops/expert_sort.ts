import { expectRank } from "../check.js";
import { fail } from "../errors.js";
import { apply, type Value } from "../graph.js";
import type { Operation } from "../operation.js";
import { tensor } from "../types.js";

/**
 * Tokens sorted by expert, stable: index int32 [T] with values 0..E (E = skip) → order int32 [T], offsets int32 [E+2], counts [E+1].
 * Expert e owns order[offsets[e]] .. order[offsets[e+1]]; the skipped tokens come last. `wide` makes counts float64.
 */
export const expertSortOperation: Operation = {
  name: "expert_sort",
  attributes: ["num_experts", "wide"],
  infer: ([index], { num_experts: E = 0, wide = 0 }) => {
    const { shape } = expectRank("expert_sort", "index", index, 1, ["int32"]);
    return [tensor("int32", shape), tensor("int32", [E + 2]), tensor(wide ? "float64" : "float32", [E + 1])];
  },
  gradient: () => [null],
};

/** The order in which experts take their tokens, where each expert's begin, and how many each class has (as `dtype`, default float32). @throws INVALID_ARGUMENT for another */
export function expertSort(
  index: Value,
  { numExperts, dtype = "float32" }: { numExperts: number; dtype?: "float32" | "float64" },
): { order: Value; offsets: Value; counts: Value } {
  if (dtype !== "float32" && dtype !== "float64")
    fail("INVALID_ARGUMENT", `[expert_sort] counts in float32 or float64, received ${String(dtype)}`);
  const [order, offsets, counts] = apply(expertSortOperation, [index], { num_experts: numExperts, wide: dtype === "float64" ? 1 : 0 });
  return { order: order as Value, offsets: offsets as Value, counts: counts as Value };
}
