import { elements, expectActivation } from "../activation.js";
import { expectShape, floats } from "../check.js";
import { apply, type Value } from "../graph.js";
import type { Operation } from "../operation.js";
import { multiply } from "./multiply.js";
import { sum } from "./sum.js";

/** y = x · factor[0]. */
export const scaleOperation: Operation = {
  name: "scale",
  infer: ([x, factor]) => {
    expectShape("scale", "factor", factor, [1], floats);
    return [expectActivation("scale", "x", x)];
  },
  gradient: ({ inputs: [x, factor], gradients: [dy], wants }) => {
    if (!x || !factor || !dy) return [null, null];
    return [wants(0) ? scale(dy, factor) : null, wants(1) ? sum(multiply(dy, x)) : null];
  },
  flops: ({ outputs: [y] }) => elements(y),
  inPlace: [[0, 0]],
};

/** x times a number that is computed on the device: `factor` has shape [1]. */
export function scale(x: Value, factor: Value): Value {
  return apply(scaleOperation, [x, factor])[0] as Value;
}
