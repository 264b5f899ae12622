import { ZayaError } from "../errors.js";
import { apply, type Value } from "../graph.js";
import type { Operation } from "../operation.js";
import { tensor } from "../types.js";

const codes = { float32: 0, bfloat16: 1, float64: 2 } as const;

/** y = the same numbers as another floating-point type; to bfloat16 to nearest, ties to even. The gradient keeps its own type. */
export const castOperation: Operation = {
  name: "cast",
  attributes: ["dtype"],
  infer: ([x], { dtype }) => {
    const target = (Object.keys(codes) as (keyof typeof codes)[]).find((name) => codes[name] === dtype);
    if (!target || !x || !(x.dtype in codes) || x.encoding !== "plain") {
      throw new ZayaError("SHAPE_MISMATCH", `[cast] expected a plain floating-point tensor and type, received ${x?.encoding} ${x?.dtype}`);
    }
    return [tensor(target, x.shape)];
  },
  gradient: ({ inputs: [x], gradients: [dy] }) => {
    if (!x || !dy) return [null];
    const wanted = x.type.dtype === "float64" ? "float64" : "float32";
    return [dy.type.dtype === wanted ? dy : cast(dy, wanted)];
  },
};

/** The same numbers as float32, bfloat16 or float64. */
export function cast(x: Value, dtype: keyof typeof codes): Value {
  return apply(castOperation, [x], { dtype: codes[dtype] })[0] as Value;
}
