import { elements, expectRows } from "../activation.js";
import { computed, expectRank, expectShape, expectWeight } from "../check.js";
import { apply, type Value } from "../graph.js";
import { bytesOfRows, type Operation } from "../operation.js";
import type { Dimension } from "../types.js";
import { combine } from "./combine.js";
import { expertSort } from "./expert_sort.js";
import { gatherRows } from "./gather_rows.js";
import { groupedLinear } from "./grouped_linear.js";
import { computeAttribute, type LinearOptions } from "./linear.js";
import { swiglu } from "./swiglu.js";

/**
 * The experts of a layer, each token by its own:  x [T,D], index int32 [T] (E = skip), prob [T], gate_up [E,2F,D], down [E,D,F] → y [T,D],
 * y = prob · down_e (silu(gate_e x) · up_e x), 0 for a token that skips. A composite; attributes as linear.
 * For weights in quantised panels x may be int8 rows.
 */
export const expertsOperation: Operation = {
  name: "experts",
  attributes: ["compute"],
  infer: ([x, index, prob, gateUp, down]) => {
    const type = computed(expectRows("experts", "x", x, [gateUp, down]));
    const [T, D] = type.shape as [Dimension, Dimension];
    expectShape("experts", "index", expectRank("experts", "index", index, 1, ["int32"]), [T]);
    expectShape("experts", "prob", expectRank("experts", "prob", prob, 1, [type.dtype]), [T]);
    const [E, F2] = expectWeight("experts", "gate_up", gateUp, 3).shape as [number, number];
    expectShape("experts", "gate_up", gateUp, [E, F2, D]);
    expectShape("experts", "down", expectWeight("experts", "down", down, 3), [E, D, F2 / 2]);
    return [type];
  },
  bytes: (tensors) => bytesOfRows(tensors, elements(tensors.inputs[1]), [3, 4]),
  flops: ({ inputs: [x, , , gateUp] }) => 3 * (x?.[0] ?? 0) * (x?.[1] ?? 0) * (gateUp?.[1] ?? 0),
  decompose: ([x, index, prob, gateUp, down], { compute = 0 }) => {
    const options: LinearOptions = { compute: compute === 1 ? "bfloat16" : "float32" };
    const numExperts = (gateUp as Value).type.shape[0] as number;
    const { order, offsets } = expertSort(index as Value, { numExperts });
    const inner = swiglu(groupedLinear(gatherRows(x as Value, order), gateUp as Value, offsets, options));
    return [combine(groupedLinear(inner, down as Value, offsets, options), order, prob as Value)];
  },
};

/** The experts of a layer: x [T,D], index int32 [T], prob [T], gateUp [E,2F,D], down [E,D,F] → [T,D]. Has no gradient. @throws SHAPE_MISMATCH */
export function experts(x: Value, index: Value, prob: Value, gateUp: Value, down: Value, options: LinearOptions = {}): Value {
  return apply(expertsOperation, [x, index, prob, gateUp, down], computeAttribute(options))[0] as Value;
}
