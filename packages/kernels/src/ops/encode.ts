import { expectShape, floats } from "../check.js";
import { fail } from "../errors.js";
import { apply, type Value } from "../graph.js";
import type { Operation } from "../operation.js";
import { type Dimension, type PanelType, tensor } from "../types.js";

const targets: readonly PanelType[] = ["float32", "bfloat16", "float64", "int8", "int6", "int4"];

/**
 * Packs a weight [..,N,K] into the panels that matrix products read (native/cpu/gemm.h, for integers native/cpu/quantised.h), rounding
 * to `dtype`. importance [..,K] ≥ 0, for int6 and int4: how much the squared error of column k counts.
 * Attribute dtype: 0 float32, 1 bfloat16, 2 float64, 3 int8, 4 int6, 5 int4.
 */
export const encodeOperation: Operation = {
  name: "encode",
  attributes: ["dtype"],
  infer: ([w, importance], { dtype }) => {
    const { shape } = expectShape("encode", "w", w, w?.shape ?? [], floats);
    if (shape.length < 2) fail("SHAPE_MISMATCH", `[encode] expected a plain tensor of at least 2 dimensions, received ${shape.length}`);
    const target = targets[dtype ?? 0] ?? fail("INVALID_ARGUMENT", `[encode] packs to ${targets.join(", ")}, received another type`);
    if (importance) expectShape("encode", "importance", importance, [...shape.slice(0, -2), shape.at(-1) as Dimension], ["float32"]);
    return [tensor(target, shape, "panels")];
  },
};

/**
 * The same weight [..,N,K] in the encoding "panels", in element type `dtype`. Integers carry a float32 scale for each row and 256
 * columns, int6 and int4 also a step and an offset for each row and 32 columns, chosen for the least squared error, column k weighted by
 * importance [..,K].
 *
 * @throws SHAPE_MISMATCH, INVALID_ARGUMENT
 */
export function encode(w: Value, dtype: PanelType, importance: Value | null = null): Value {
  return apply(encodeOperation, [w, importance], { dtype: targets.indexOf(dtype) })[0] as Value;
}
