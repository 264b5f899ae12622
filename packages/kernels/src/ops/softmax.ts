import { elements, expectActivation } from "../activation.js";
import { expectShape } from "../check.js";
import { apply, type Value } from "../graph.js";
import type { Operation } from "../operation.js";

/** p = exp(x − max) / Σ exp(x − max) over the last axis. −inf gets 0; a row of nothing but −inf gets NaN. */
export const softmaxOperation: Operation = {
  name: "softmax",
  infer: ([x]) => [expectActivation("softmax", "x", x)],
  gradient: ({ outputs: [p], gradients: [dp] }) => [p && dp ? (apply(softmaxGradOperation, [dp, p])[0] as Value) : null],
  flops: ({ inputs: [x] }) => 20 * elements(x),
  inPlace: [[0, 0]],
};

/** dx = p · (dp − Σ dp · p). */
export const softmaxGradOperation: Operation = {
  name: "softmax_grad",
  infer: ([dp, p]) => {
    const type = expectActivation("softmax_grad", "p", p);
    expectShape("softmax_grad", "dp", dp, type.shape, [type.dtype]);
    return [type];
  },
  flops: ({ inputs: [p] }) => 4 * elements(p),
  inPlace: [
    [0, 0],
    [0, 1],
  ],
};

/** Softmax over the last axis. */
export function softmax(x: Value): Value {
  return apply(softmaxOperation, [x])[0] as Value;
}
