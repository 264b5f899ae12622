import { fail } from "./errors.js";
import { apply, createGraph, type Graph, type Value } from "./graph.js";
import type { Operation } from "./operation.js";

/**
 * Rewrites a graph so that every operation has a kernel: a composite without one is replaced by its decomposition.
 * @throws UNSUPPORTED_OPERATION naming the operation that has neither
 */
export function lower(graph: Graph, hasKernel: (name: string) => boolean): Graph {
  const lowered = createGraph();
  const values = new Map<Value, Value>();
  const mapped = (value: Value | null) => (value ? (values.get(value) as Value) : null);

  // A decomposition builds its nodes in the graph of its inputs, so what it returns may need lowering itself.
  const emit = (
    operation: Operation,
    inputs: readonly (Value | null)[],
    attributes: Readonly<Record<string, number>>,
  ): readonly Value[] => {
    if (operation.view || hasKernel(operation.name)) return apply(operation, inputs, attributes);
    if (!operation.decompose) fail("UNSUPPORTED_OPERATION", `[${operation.name}] has no kernel on this device and no decomposition`);
    const scratch = createGraph();
    const stand = new Map<Value, Value>();
    const arguments_ = inputs.map((input, i) => {
      if (!input) return null;
      const placeholder = scratch.read(`${i}`, input.type);
      stand.set(placeholder, input);
      return placeholder;
    });
    const results = operation.decompose(arguments_, attributes);
    for (const node of scratch.nodes) {
      if (node.operation === null) continue;
      const outputs = emit(
        node.operation,
        node.inputs.map((input) => (input ? (stand.get(input) as Value) : null)),
        node.attributes,
      );
      node.outputs.forEach((output, i) => {
        stand.set(output, outputs[i] as Value);
      });
    }
    return results.map((result) => stand.get(result) as Value);
  };

  for (const node of graph.nodes) {
    if (node.operation === null) {
      const source = node.outputs[0] as Value;
      values.set(source, node.kind === "input" ? lowered.input(node.name, source.type) : lowered.read(node.name, source.type));
      continue;
    }
    const outputs = emit(node.operation, node.inputs.map(mapped), node.attributes);
    node.outputs.forEach((output, i) => {
      values.set(output, outputs[i] as Value);
    });
  }
  for (const [name, value] of graph.outputs) lowered.output(name, mapped(value) as Value);
  for (const [name, value] of graph.assigns) lowered.assign(name, mapped(value) as Value);
  return lowered;
}
