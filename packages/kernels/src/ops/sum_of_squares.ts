import { elements, expectActivation } from "../activation.js";
import { computed } from "../check.js";
import { apply, type Value } from "../graph.js";
import type { Operation } from "../operation.js";
import { add } from "./add.js";
import { scale } from "./scale.js";

/** y [1] = Σ x². */
export const sumOfSquaresOperation: Operation = {
  name: "sum_of_squares",
  infer: ([x]) => [computed(expectActivation("sum_of_squares", "x", x), [1])],
  gradient: ({ inputs: [x], gradients: [dy] }) => [x && dy ? scale(x, add(dy, dy)) : null],
  flops: ({ inputs: [x] }) => 2 * elements(x),
};

/** The sum of the squares of all elements, shape [1]. */
export function sumOfSquares(x: Value): Value {
  return apply(sumOfSquaresOperation, [x])[0] as Value;
}
