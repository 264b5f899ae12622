import { expectShape, floats } from "../check.js";
import { apply, type Value } from "../graph.js";
import type { Operation } from "../operation.js";
import { tensor } from "../types.js";

/**
 * y [rows, columns] of random entries of a table of 65 536 values, in its type: element i takes 16 of the 128 bits that Philox 4x32-10 makes
 * of the counter (first + i / 8, stream) under a seed. `place` is int32 [4]: seed, seed / 2³², stream, first.
 */
export const randomSampleOperation: Operation = {
  name: "random_sample",
  attributes: ["rows", "columns"],
  infer: ([table, place], { rows = 0, columns = 0 }) => {
    const { dtype } = expectShape("random_sample", "table", table, [65536], floats);
    expectShape("random_sample", "place", place, [4], ["int32"]);
    return [tensor(dtype, [rows, columns])];
  },
};

/** Random entries of `table`, the same for the same `place`. */
export function randomSample(table: Value, place: Value, shape: readonly [rows: number, columns: number]): Value {
  return apply(randomSampleOperation, [table, place], { rows: shape[0], columns: shape[1] })[0] as Value;
}
