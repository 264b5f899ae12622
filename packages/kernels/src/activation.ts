import { expectRank } from "./check.js";
import { fail, ZayaError } from "./errors.js";
import { describeType, isQuantised, type TensorType } from "./types.js";

/** The input, which must be an activation: a plain tensor of float32 (or float64, for gradient checks) with at least one dimension. */
export function expectActivation(operation: string, what: string, received: TensorType | null | undefined): TensorType {
  if (received?.encoding !== "plain" || (received.dtype !== "float32" && received.dtype !== "float64") || received.shape.length === 0) {
    throw new ZayaError(
      "SHAPE_MISMATCH",
      `[${operation}] expected ${what} to be plain float32 or float64, received ${received ? describeType(received) : "nothing"}`,
    );
  }
  return received;
}

/** The rows of a product [T,K]: an activation, or int8 rows where every weight is in quantised panels. */
export function expectRows(
  operation: string,
  what: string,
  received: TensorType | null | undefined,
  weights: readonly (TensorType | null | undefined)[],
): TensorType {
  if (received?.encoding !== "rows") return expectRank(operation, what, expectActivation(operation, what, received), 2);
  if (!weights.every((w) => w && isQuantised(w)))
    fail("SHAPE_MISMATCH", `[${operation}] takes ${what} as int8 rows only with weights in quantised panels`);
  return expectRank(operation, what, received, 2);
}

/** Number of elements of a shape with every size bound; 0 for an absent input. */
export function elements(shape: readonly number[] | null | undefined): number {
  return shape ? shape.reduce((product, n) => product * n, 1) : 0;
}
