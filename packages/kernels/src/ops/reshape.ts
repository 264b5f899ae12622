import { ZayaError } from "../errors.js";
import { apply, type Value } from "../graph.js";
import type { Operation } from "../operation.js";
import { type Dimension, describeType, tensor } from "../types.js";

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
      if (x?.encoding !== "plain" || !sameElements(x.shape, shape)) {
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

/** Whether two shapes have as many elements whatever their sizes are bound to: the same sizes, and as much of all else. */
function sameElements(a: readonly Dimension[], b: readonly Dimension[]): boolean {
  const [first, second] = [factorsOf(a), factorsOf(b)];
  return first.fixed === second.fixed && first.sizes === second.sizes;
}

/** The product of what is fixed in a shape, and what is not: T and T+1 each by itself, 2T as 2 and T. */
function factorsOf(shape: readonly Dimension[]): { fixed: number; sizes: string } {
  let fixed = 1;
  const sizes: string[] = [];
  for (const dimension of shape) {
    if (typeof dimension === "number") fixed *= dimension;
    else if (dimension.plus !== 0) sizes.push(`${dimension.times} ${dimension.name} ${dimension.plus}`);
    else {
      fixed *= dimension.times;
      sizes.push(dimension.name);
    }
  }
  return { fixed, sizes: JSON.stringify(sizes.sort()) };
}

/** The elements of `x` in another shape, row-major, without copying. @throws SHAPE_MISMATCH unless it has as many elements, whatever sizes are bound to */
export function reshape(x: Value, shape: readonly Dimension[]): Value {
  return apply(reshapeOperation(shape), [x])[0] as Value;
}
