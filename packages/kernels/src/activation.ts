import { ZayaError } from "./errors.js";
import { describeType, type TensorType } from "./types.js";

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

/** Number of elements of a shape with every size bound; 0 for an absent input. */
export function elements(shape: readonly number[] | null | undefined): number {
  return shape ? shape.reduce((product, n) => product * n, 1) : 0;
}
