import { elements, expectActivation } from "../activation.js";
import { computed, expectShape } from "../check.js";
import { apply, type Value } from "../graph.js";
import type { Operation } from "../operation.js";

/** y [1] = the sum of all elements of x. */
export const sumOperation: Operation = {
  name: "sum",
  infer: ([x]) => [computed(expectActivation("sum", "x", x), [1])],
  gradient: ({ inputs: [x], gradients: [dy] }) => [x && dy ? sumGrad(dy, x) : null],
  flops: ({ inputs: [x] }) => elements(x),
};

/** dx = dy[0] in the shape of x, whose elements are not read. */
export const sumGradOperation: Operation = {
  name: "sum_grad",
  infer: ([dy, x]) => {
    const type = expectActivation("sum_grad", "x", x);
    expectShape("sum_grad", "dy", dy, [1], [type.dtype]);
    return [type];
  },
};

/** The sum of all elements, shape [1]. */
export function sum(x: Value): Value {
  return apply(sumOperation, [x])[0] as Value;
}

function sumGrad(dy: Value, x: Value): Value {
  return apply(sumGradOperation, [dy, x])[0] as Value;
}
