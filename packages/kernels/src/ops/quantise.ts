import { elements } from "../activation.js";
import { expectRank } from "../check.js";
import { apply, type Value } from "../graph.js";
import type { Operation } from "../operation.js";
import { tensor } from "../types.js";

/**
 * x [T,D] float32 → int8 rows [T,D]: x ≈ d · q, d = max |x| / 127 of a row and 256 columns, q rounded to nearest even. What products with weights in
 * quantised panels make of their x, once for several of them (native/cpu/quantised.h).
 */
export const quantiseOperation: Operation = {
  name: "quantise",
  infer: ([x]) => [tensor("int8", expectRank("quantise", "x", x, 2, ["float32"]).shape, "rows")],
  flops: ({ inputs: [x] }) => 3 * elements(x),
};

/** x [T,D] float32 as int8 rows, for products with quantised weights. Has no gradient. @throws SHAPE_MISMATCH */
export function quantise(x: Value): Value {
  return apply(quantiseOperation, [x])[0] as Value;
}
