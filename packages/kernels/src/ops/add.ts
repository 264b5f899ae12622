import { elements, expectActivation } from "../activation.js";
import { expectShape } from "../check.js";
import { apply, type Value } from "../graph.js";
import type { Operation } from "../operation.js";

/** a + b, of one shape. */
export const addOperation: Operation = {
  name: "add",
  infer: ([a, b]) => {
    const x = expectActivation("add", "a", a);
    expectShape("add", "b", b, x.shape, [x.dtype]);
    return [x];
  },
  gradient: ({ gradients: [dy] }) => [dy ?? null, dy ?? null],
  flops: ({ outputs: [y] }) => elements(y),
  inPlace: [
    [0, 0],
    [0, 1],
  ],
};

/** a + b, of one shape. */
export function add(a: Value, b: Value): Value {
  return apply(addOperation, [a, b])[0] as Value;
}
