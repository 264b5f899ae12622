import { ZayaError } from "../errors.js";
import { apply, type Value } from "../graph.js";
import type { Operation } from "../operation.js";
import { type Dimension, describeType, maxElements, tensor } from "../types.js";

/**
 * The same elements in another shape: a view, without a kernel. The shape is part of the operation, as a plan holds numbers only
 * and a dimension may be a symbol; so each call makes its own operation.
 */
function reshapeOperation(shape: readonly Dimension[]): Operation {
  return {
    name: "reshape",
    view: true,
    infer: ([x]) => {
      const y = tensor(x?.dtype ?? "float32", shape);
      if (x?.encoding !== "plain" || maxElements(x) !== maxElements(y)) {
        throw new ZayaError(
          "SHAPE_MISMATCH",
          `[reshape] expected as many elements as ${describeType(y)}, received ${x ? describeType(x) : "nothing"}`,
        );
      }
      return [y];
    },
    gradient: ({ inputs: [x], gradients: [dy] }) => [x && dy ? reshape(dy, x.type.shape) : null],
  };
}

/** The elements of `x` in another shape, row-major, without copying. */
export function reshape(x: Value, shape: readonly Dimension[]): Value {
  return apply(reshapeOperation(shape), [x])[0] as Value;
}
