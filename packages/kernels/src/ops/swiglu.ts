import { elements, expectActivation } from "../activation.js";
import { expectFixed, expectShape } from "../check.js";
import { ZayaError } from "../errors.js";
import { apply, type Value } from "../graph.js";
import type { Operation } from "../operation.js";
import { type TensorType, tensor } from "../types.js";

/** y [T,F] = silu(gate) · up for gate_up [T,2F]: F gate columns, then F up columns. */
export const swigluOperation: Operation = {
  name: "swiglu",
  infer: ([gateUp]) => [inner(expectActivation("swiglu", "gate_up", gateUp))],
  gradient: ({ inputs: [gateUp], gradients: [dy] }) => [gateUp && dy ? (apply(swigluGradOperation, [dy, gateUp])[0] as Value) : null],
  flops: ({ outputs: [y] }) => 20 * elements(y),
};

/** dgate_up [T,2F] from dy [T,F] and gate_up. */
export const swigluGradOperation: Operation = {
  name: "swiglu_grad",
  infer: ([dy, gateUp]) => {
    const type = expectActivation("swiglu_grad", "gate_up", gateUp);
    expectShape("swiglu_grad", "dy", dy, inner(type).shape, [type.dtype]);
    return [type];
  },
  flops: ({ inputs: [dy] }) => 28 * elements(dy),
  inPlace: [[0, 1]],
};

/** silu(gate) · up: [T,2F] → [T,F]. */
export function swiglu(gateUp: Value): Value {
  return apply(swigluOperation, [gateUp])[0] as Value;
}

function inner(type: TensorType): TensorType {
  const columns = expectFixed("swiglu", "columns of gate_up", type.shape.at(-1));
  if (columns % 2 !== 0) throw new ZayaError("SHAPE_MISMATCH", `[swiglu] expected an even number of columns, received ${columns}`);
  return tensor(type.dtype, [...type.shape.slice(0, -1), columns / 2]);
}
