import type { Graph, Node } from "./graph.js";
import { type BoundShapes, type BoundTensors, type Cost, wholeBytes } from "./operation.js";
import { sizesOf } from "./plan.js";
import { liveNodes } from "./schedule.js";
import { bytesOf, expectSize, valueOf } from "./types.js";

/** Cost of one step of a graph at given sizes: in all, and by operation name. */
export interface GraphCost extends Cost {
  readonly operations: ReadonlyMap<string, Cost>;
}

/**
 * FLOPs and bytes that a graph needs once, from the formulas of its operations. What neither an output nor an assignment needs is not run and
 * not counted; in a graph that has none of either, everything is.
 * @throws MISSING_INPUT when a size of the graph is not given; INVALID_ARGUMENT when one is no whole number from 0 to its maximum
 */
export function costOf(graph: Graph, sizes: Readonly<Record<string, number>> = {}): GraphCost {
  const bound = new Map(Object.entries(sizes));
  for (const size of sizesOf(graph)) {
    const value = bound.get(size.name);
    if (value !== undefined) expectSize(size, value);
  }
  const operations = new Map<string, Cost>();
  let flops = 0;
  let bytes = 0;
  const live = graph.outputs.size + graph.assigns.size > 0 ? liveNodes(graph) : new Set(graph.nodes);
  for (const node of graph.nodes) {
    if (!live.has(node) || node.operation === null || node.operation.view) continue;
    const cost = costOfNode(node, bound);
    const sum = operations.get(node.name) ?? { flops: 0, bytes: 0 };
    operations.set(node.name, { flops: sum.flops + cost.flops, bytes: sum.bytes + cost.bytes });
    flops += cost.flops;
    bytes += cost.bytes;
  }
  return { flops, bytes, operations };
}

function costOfNode(node: Node, sizes: ReadonlyMap<string, number>): Cost {
  const bind = (shape: Parameters<typeof valueOf>[0][] | readonly Parameters<typeof valueOf>[0][]) =>
    shape.map((dimension) => valueOf(dimension, sizes));
  const shapes: BoundShapes = {
    inputs: node.inputs.map((input) => (input ? bind(input.type.shape) : null)),
    outputs: node.outputs.map((output) => bind(output.type.shape)),
  };
  const tensors: BoundTensors = {
    ...shapes,
    inputBytes: node.inputs.map((input, i) => (input ? bytesOf(input.type, shapes.inputs[i] ?? []) : 0)),
    outputBytes: node.outputs.map((output, i) => bytesOf(output.type, shapes.outputs[i] ?? [])),
  };
  return {
    flops: node.operation?.flops?.(shapes, node.attributes) ?? 0,
    bytes: node.operation?.bytes?.(tensors, node.attributes) ?? wholeBytes(tensors),
  };
}
