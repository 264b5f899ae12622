import { fail } from "../errors.js";
import { apply, type Value } from "../graph.js";
import type { Operation } from "../operation.js";
import { type DType, type TensorType, tensor } from "../types.js";

const targets: readonly DType[] = ["float32", "bfloat16", "float64"];

/**
 * Packs a weight [..,N,K] into the panels that matrix products read (native/cpu/gemm.h), rounding to `dtype`.
 * Attribute dtype: 0 float32, 1 bfloat16, 2 float64.
 */
export const encodeOperation: Operation = {
  name: "encode",
  attributes: ["dtype"],
  infer: ([w], { dtype }) => {
    const { shape, encoding } = w as TensorType;
    if (encoding !== "plain" || shape.length < 2)
      fail("SHAPE_MISMATCH", `[encode] expected a plain tensor of at least 2 dimensions, received ${encoding} of ${shape.length}`);
    return [tensor(targets[dtype ?? 0] as DType, shape, "panels")];
  },
};

/** The same weight in the encoding "panels", in element type `dtype`. */
export function encode(w: Value, dtype: DType): Value {
  return apply(encodeOperation, [w], { dtype: targets.indexOf(dtype) })[0] as Value;
}
