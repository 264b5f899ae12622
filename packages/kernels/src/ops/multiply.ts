import { elements, expectActivation } from "../activation.js";
import { expectShape } from "../check.js";
import { apply, type Value } from "../graph.js";
import type { Operation } from "../operation.js";

/** a · b element by element, of one shape. */
export const multiplyOperation: Operation = {
  name: "multiply",
  infer: ([a, b]) => {
    const x = expectActivation("multiply", "a", a);
    expectShape("multiply", "b", b, x.shape, [x.dtype]);
    return [x];
  },
  gradient: ({ inputs: [a, b], gradients: [dy], wants }) => {
    if (!a || !b || !dy) return [null, null];
    return [wants(0) ? multiply(dy, b) : null, wants(1) ? multiply(dy, a) : null];
  },
  flops: ({ outputs: [y] }) => elements(y),
  inPlace: [
    [0, 0],
    [0, 1],
  ],
};

/** a · b element by element, of one shape. */
export function multiply(a: Value, b: Value): Value {
  return apply(multiplyOperation, [a, b])[0] as Value;
}
