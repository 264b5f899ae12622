import { fail } from "../errors.js";
import { apply, type Value } from "../graph.js";
import type { Operation } from "../operation.js";
import { describeType, type TensorType, tensor } from "../types.js";

/**
 * y [rows, columns] of random entries of a table of 65 536 values, in its type: element i takes 16 of the 128 bits that Philox 4x32-10 makes
 * of the counter (first + i / 8, stream) under a seed. `place` is int32 [4]: seed, seed / 2³², stream, first.
 */
export const randomSampleOperation: Operation = {
  name: "random_sample",
  attributes: ["rows", "columns"],
  infer: ([table, place], { rows = 0, columns = 0 }) => {
    const { dtype, shape, encoding } = table as TensorType;
    if (encoding !== "plain" || dtype === "int32" || shape.join() !== "65536")
      fail("SHAPE_MISMATCH", `[random_sample] expected a table of 65536 numbers, received ${describeType(table as TensorType)}`);
    if (place?.dtype !== "int32" || place.shape.join() !== "4")
      fail("SHAPE_MISMATCH", `[random_sample] expected place int32 [4], received ${describeType(place as TensorType)}`);
    return [tensor(dtype, [rows, columns])];
  },
};

/** Random entries of `table`, the same for the same `place`. */
export function randomSample(table: Value, place: Value, shape: readonly [rows: number, columns: number]): Value {
  return apply(randomSampleOperation, [table, place], { rows: shape[0], columns: shape[1] })[0] as Value;
}
