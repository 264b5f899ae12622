import { expectShape, floats } from "../check.js";
import { fail, ZayaError } from "../errors.js";
import { apply, type Value } from "../graph.js";
import type { Operation } from "../operation.js";
import { describeType, type TensorType, tensor } from "../types.js";

/** y [T,end−begin] = columns begin..end of x [T,C]. */
export const sliceOperation: Operation = {
  name: "slice",
  attributes: ["begin", "end"],
  infer: ([x], { begin = 0, end = 0 }) => {
    if (!Number.isInteger(begin) || !Number.isInteger(end))
      fail("INVALID_ARGUMENT", `[slice] expected whole numbers of columns, received ${begin} to ${end}`);
    const columns = x?.shape.at(-1);
    if (!x || typeof columns !== "number" || !(begin >= 0 && begin <= end && end <= columns)) {
      throw new ZayaError(
        "SHAPE_MISMATCH",
        `[slice] columns ${begin} to ${end} do not fit ${typeof columns === "number" ? `${columns} columns` : "the input"}`,
      );
    }
    if (x.encoding !== "plain") fail("SHAPE_MISMATCH", `[slice] expected a plain input, received ${describeType(x)}`);
    return [tensor(x.dtype, [...x.shape.slice(0, -1), end - begin])];
  },
  gradient: ({ node, inputs: [x], gradients: [dy] }) => [
    x && dy ? sliceGrad(dy, x, { begin: node.attributes.begin ?? 0, end: node.attributes.end ?? 0 }) : null,
  ],
};

/** dx [T,C] = dy in columns begin..end, zeros around it, in the type of dy. The elements of x are not read. */
export const sliceGradOperation: Operation = {
  name: "slice_grad",
  attributes: ["begin", "end"],
  infer: ([dy, x], attributes) => {
    const [part] = sliceOperation.infer([x ?? null], attributes) as [TensorType];
    const { dtype } = expectShape("slice_grad", "dy", dy, part.shape, floats);
    return [tensor(dtype, (x as TensorType).shape)];
  },
};

/** dy in columns `begin` to `end` of zeros in the shape of x. */
export function sliceGrad(dy: Value, x: Value, { begin, end }: { begin: number; end: number }): Value {
  return apply(sliceGradOperation, [dy, x], { begin, end })[0] as Value;
}

/** Columns `begin` to `end` (not included) of the last axis. @throws SHAPE_MISMATCH; INVALID_ARGUMENT for fractions */
export function slice(x: Value, { begin, end }: { begin: number; end: number }): Value {
  return apply(sliceOperation, [x], { begin, end })[0] as Value;
}
