import { fail } from "./errors.js";
import type { Node, Value } from "./graph.js";
import { add } from "./ops/add.js";
import { fill } from "./ops/fill.js";
import { describeType, sameShape } from "./types.js";

/**
 * Adds to the graph the gradient of `loss` with respect to each value of `wrt`, in order. Only nodes between them are visited, and
 * only gradients that are needed are built. The gradient of a value that does not reach the loss is zeros.
 *
 * @param loss any shape; the gradient is that of the sum of its elements
 * @throws UNSUPPORTED_OPERATION when an operation on the way has no gradient; INVALID_ARGUMENT for a value of another graph, or of integers
 */
export function differentiate(loss: Value, wrt: readonly Value[]): Value[] {
  return vectorJacobian([loss], [fill(loss, 1)], wrt);
}

/**
 * The gradients of Σ outputs[i]·seeds[i]; see {@link differentiate}, which is the case of one output and a seed of ones.
 * @throws SHAPE_MISMATCH when a seed is not of its output's type
 */
export function vectorJacobian(outputs: readonly Value[], seeds: readonly Value[], wrt: readonly Value[]): Value[] {
  for (const value of [...seeds, ...wrt])
    if (outputs[0] && value.graph !== outputs[0].graph)
      fail("INVALID_ARGUMENT", "gradients are of values of one graph, received one of another");
  for (const { type } of wrt)
    if (!["float32", "float64", "bfloat16"].includes(type.dtype)) fail("INVALID_ARGUMENT", `${describeType(type)} has no gradient`);
  const needed = nodesThatLeadTo(outputs, wrt);
  const gradients = new Map<Value, Value>();
  const collect = (value: Value, gradient: Value) => {
    const known = gradients.get(value);
    gradients.set(value, known ? add(known, gradient) : gradient);
  };
  outputs.forEach((output, i) => {
    const seed = seeds[i];
    if (
      !seed ||
      !sameShape(seed.type.shape, output.type.shape) ||
      seed.type.dtype !== output.type.dtype ||
      seed.type.encoding !== output.type.encoding
    )
      fail(
        "SHAPE_MISMATCH",
        `seed ${i} must be ${describeType(output.type)} as its output, received ${seed ? describeType(seed.type) : "nothing"}`,
      );
    collect(output, seed);
  });

  for (const node of [...needed].sort((a, b) => b.id - a.id)) {
    const incoming = node.outputs.map((output) => gradients.get(output) ?? null);
    if (node.operation === null || incoming.every((gradient) => gradient === null)) continue;
    const wants = (i: number) => {
      const input = node.inputs[i];
      return !!input && (needed.has(input.node) || wrt.includes(input));
    };
    if (!node.inputs.some((_, i) => wants(i))) continue;
    const { gradient } = node.operation;
    if (!gradient) fail("UNSUPPORTED_OPERATION", `[${node.name}] has no gradient; stop at its inputs or leave it out of the loss`);
    const outgoing = gradient({ node, inputs: node.inputs, outputs: node.outputs, gradients: incoming, wants });
    outgoing.forEach((value, i) => {
      const input = node.inputs[i];
      if (input && value && wants(i)) collect(input, value);
    });
  }
  return wrt.map((value) => gradients.get(value) ?? fill(value, 0));
}

/** Nodes from which the outputs are computed and which themselves depend on one of `wrt`. */
function nodesThatLeadTo(outputs: readonly Value[], wrt: readonly Value[]): Set<Node> {
  const sources = new Set(wrt.map((value) => value.node));
  const depends = new Set<Node>();
  for (const node of outputs[0]?.graph.nodes ?? []) {
    if (sources.has(node) || node.inputs.some((input) => input && depends.has(input.node))) depends.add(node);
  }
  const reached = new Set<Node>();
  const pending = outputs.map((output) => output.node);
  for (let node = pending.pop(); node; node = pending.pop()) {
    if (reached.has(node) || !depends.has(node)) continue;
    reached.add(node);
    for (const input of node.inputs) if (input) pending.push(input.node);
  }
  return reached;
}
