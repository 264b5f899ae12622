import { fail } from "./errors.js";
import type { Graph, Node, Value } from "./graph.js";
import { describeType, sameShape } from "./types.js";

/** The order in which a graph runs, and how its assignments reach the store. */
export interface Schedule {
  /** Live operations in order: first everything that leaves the store as it is, then the tail. */
  readonly steps: readonly Node[];
  /** Index of the first step of the tail. From there on a run is not aborted, so the store is either old or new. */
  readonly tail: number;
  /** Results that are written straight over a tensor of the store, by the name of that tensor. */
  readonly updates: ReadonlyMap<Value, string>;
  /** Results that are copied into the store at the very end. */
  readonly copies: readonly (readonly [Value, string])[];
}

/** Leaves out what neither an output nor an assignment needs, and moves in-place updates of the store to the tail. */
export function schedule(graph: Graph): Schedule {
  const live = liveNodes(graph);
  const order = graph.nodes.filter((node) => live.has(node) && node.operation !== null);
  const consumers = new Map<Value, Node[]>();
  for (const node of order) {
    for (const input of node.inputs) {
      if (!input) continue;
      const list = consumers.get(input);
      if (list) list.push(node);
      else consumers.set(input, [node]);
    }
  }
  const returned = new Set<Value>(graph.outputs.values());
  for (const [name, value] of graph.outputs) {
    const { kind, name: tensor } = viewedBy(value).node;
    if (kind === "read" && graph.assigns.has(tensor))
      fail("INVALID_ARGUMENT", `output ${name} is tensor ${tensor} of the store, which the graph assigns; return a value computed from it`);
  }
  const inTail = new Set<Node>();
  for (const value of graph.assigns.values()) {
    const unread = value.node.outputs.every((output) => !consumers.has(output) && !returned.has(output));
    if (unread && updatePair(graph, value)) inTail.add(value.node);
  }
  const tail = order.filter((node) => inTail.has(node));
  const mayRefuse = (node: Node) => node.operation?.mayRefuse === true;
  const steps = [
    ...order.filter((node) => !inTail.has(node)),
    ...tail.filter(mayRefuse),
    ...tail.filter((node) => !mayRefuse(node)),
  ].filter((node) => !node.operation?.view);
  const position = new Map(steps.map((node, i) => [node, i]));

  const updates = new Map<Value, string>();
  const copies: (readonly [Value, string])[] = [];
  for (const [name, value] of graph.assigns) {
    if (viewedBy(value).node.operation === null)
      fail("INVALID_ARGUMENT", `${name} is assigned a value that was only read or passed in; assign a computed one`);
    const mayUpdate = inTail.has(value.node) || value.node.operation?.appends;
    const old = mayUpdate ? updatePair(graph, value) : null;
    const at = position.get(value.node) ?? -1;
    const readEarlier = old && readers(old, consumers).every((node) => node === value.node || (position.get(node) ?? -1) < at);
    if (old?.node.name === name && readEarlier) updates.set(value, name);
    else copies.push([value, name]);
  }
  return {
    steps,
    tail: steps.length - tail.length,
    updates,
    copies,
  };
}

/** The read of the assigned tensor that the assigned value may overwrite, if its operation allows that. */
function updatePair(graph: Graph, value: Value): Value | null {
  for (const [output, input] of value.node.operation?.inPlace ?? []) {
    const old = value.node.inputs[input];
    if (output !== value.index || old?.node.kind !== "read" || graph.assigns.get(old.node.name) !== value) continue;
    if (!sameShape(old.type.shape, value.type.shape) || old.type.dtype !== value.type.dtype || old.type.encoding !== value.type.encoding) {
      fail("SHAPE_MISMATCH", `${old.node.name} is ${describeType(old.type)} and is assigned ${describeType(value.type)}`);
    }
    return old;
  }
  return null;
}

/** What a view shows, or the value itself. */
function viewedBy(value: Value): Value {
  return value.node.operation?.view ? viewedBy(value.node.inputs[0] as Value) : value;
}

/** Nodes that read a value, also through views of it. */
function readers(value: Value, consumers: ReadonlyMap<Value, readonly Node[]>): Node[] {
  return (consumers.get(value) ?? []).flatMap((node) => (node.operation?.view ? readers(node.outputs[0] as Value, consumers) : [node]));
}

/** The nodes from which outputs and assignments are computed. */
export function liveNodes(graph: Graph): Set<Node> {
  const live = new Set<Node>();
  const pending = [...graph.outputs.values(), ...graph.assigns.values()].map((value) => value.node);
  for (let node = pending.pop(); node; node = pending.pop()) {
    if (live.has(node)) continue;
    live.add(node);
    for (const input of node.inputs) if (input) pending.push(input.node);
  }
  return live;
}
