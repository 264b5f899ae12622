import { elements, expectActivation } from "../activation.js";
import { expectShape } from "../check.js";
import { apply, type Value } from "../graph.js";
import type { Operation } from "../operation.js";

/** y = x · (1 + erf(x / √2)) / 2, the exact form. */
export const geluOperation: Operation = {
  name: "gelu",
  infer: ([x]) => [expectActivation("gelu", "x", x)],
  gradient: ({ inputs: [x], gradients: [dy] }) => [x && dy ? (apply(geluGradOperation, [dy, x])[0] as Value) : null],
  flops: ({ inputs: [x] }) => 30 * elements(x),
  inPlace: [[0, 0]],
};

/** dx = dy · (Φ(x) + x · φ(x)). */
export const geluGradOperation: Operation = {
  name: "gelu_grad",
  infer: ([dy, x]) => {
    const type = expectActivation("gelu_grad", "x", x);
    expectShape("gelu_grad", "dy", dy, type.shape, [type.dtype]);
    return [type];
  },
  flops: ({ inputs: [x] }) => 50 * elements(x),
  inPlace: [
    [0, 0],
    [0, 1],
  ],
};

/** GELU in its exact form, x · Φ(x). */
export function gelu(x: Value): Value {
  return apply(geluOperation, [x])[0] as Value;
}
