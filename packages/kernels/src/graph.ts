import { fail } from "./errors.js";
import type { Attributes, Operation } from "./operation.js";
import { describeType, type TensorType } from "./types.js";

/** One result of a node: what flows along an edge of the graph. */
export interface Value {
  readonly graph: Graph;
  readonly node: Node;
  readonly index: number;
  readonly type: TensorType;
}

/** An operation applied to values. Inputs of the graph and reads of the store are nodes without inputs. */
export interface Node {
  readonly id: number;
  readonly kind: "input" | "read" | "operation";
  /** The operation's name, or the name of the input or of the tensor in the store. */
  readonly name: string;
  readonly operation: Operation | null;
  readonly inputs: readonly (Value | null)[];
  readonly attributes: Attributes;
  readonly outputs: readonly Value[];
}

/** A pure description of one step. Nodes are in an order in which they can run. */
export interface Graph {
  readonly nodes: readonly Node[];
  /** Results that `run` returns, by name. */
  readonly outputs: ReadonlyMap<string, Value>;
  /** Tensors of the store that change when the step ends, by name. */
  readonly assigns: ReadonlyMap<string, Value>;
  /** A plain tensor given at `run`. The same name twice is the same value. @throws INVALID_ARGUMENT when it has another type the second time, or is not plain */
  input(name: string, type: TensorType): Value;
  /** A tensor of the store, as it is when the step starts. The same name twice is the same value. @throws INVALID_ARGUMENT when it has another type the second time */
  read(name: string, type: TensorType): Value;
  /** Replaces a tensor of the store when the step ends. @throws INVALID_ARGUMENT when it is replaced already */
  assign(name: string, value: Value): void;
  /** A result that `run` returns: any value but a tensor of the store that the graph assigns. @throws INVALID_ARGUMENT when there is one of that name */
  output(name: string, value: Value): void;
}

interface MutableGraph extends Graph {
  readonly nodes: Node[];
}

/** Starts an empty graph. */
export function createGraph(): Graph {
  const nodes: Node[] = [];
  const sources = new Map<string, Value>();
  const outputs = new Map<string, Value>();
  const assigns = new Map<string, Value>();

  function source(kind: "input" | "read", name: string, type: TensorType): Value {
    const key = `${kind} ${name}`;
    const known = sources.get(key);
    if (known) {
      if (describeType(known.type) !== describeType(type))
        fail(
          "INVALID_ARGUMENT",
          `${kind} ${name} is ${describeType(known.type)} in this graph already, and cannot be ${describeType(type)}`,
        );
      return known;
    }
    const node = addNode(graph, { kind, name, operation: null, inputs: [], attributes: {} }, [type]);
    const value = node.outputs[0] as Value;
    sources.set(key, value);
    return value;
  }
  function own(value: Value, what: string): void {
    if (value.graph !== graph) fail("INVALID_ARGUMENT", `${what} belongs to another graph`);
  }

  const graph: MutableGraph = {
    nodes,
    outputs,
    assigns,
    input(name, type) {
      if (type.encoding !== "plain")
        fail("INVALID_ARGUMENT", `input ${name} is ${describeType(type)}; inputs are plain, weights in panels are read from a store`);
      return source("input", name, type);
    },
    read: (name, type) => source("read", name, type),
    assign(name, value) {
      own(value, `the value assigned to ${name}`);
      if (assigns.has(name)) fail("INVALID_ARGUMENT", `${name} is assigned twice in one graph`);
      assigns.set(name, value);
    },
    output(name, value) {
      own(value, `output ${name}`);
      if (outputs.has(name)) fail("INVALID_ARGUMENT", `the graph has an output ${name} already`);
      outputs.set(name, value);
    },
  };
  return graph;
}

/** Applies an operation: infers the types and adds the node to the graph of its inputs. */
export function apply(operation: Operation, inputs: readonly (Value | null)[], attributes: Attributes = {}): readonly Value[] {
  const first = inputs.find((value) => value !== null);
  if (!first) fail("INVALID_ARGUMENT", `[${operation.name}] needs at least one input`);
  for (const value of inputs) {
    if (value && value.graph !== first.graph) fail("INVALID_ARGUMENT", `[${operation.name}] got inputs of two graphs`);
  }
  const types = operation.infer(
    inputs.map((value) => value?.type ?? null),
    attributes,
  );
  return addNode(first.graph as MutableGraph, { kind: "operation", name: operation.name, operation, inputs, attributes }, types).outputs;
}

function addNode(graph: MutableGraph, fields: Omit<Node, "id" | "outputs">, types: readonly TensorType[]): Node {
  const outputs: Value[] = [];
  const node: Node = { ...fields, id: graph.nodes.length, outputs };
  types.forEach((type, index) => {
    outputs.push({ graph, node, index, type });
  });
  graph.nodes.push(node);
  return node;
}
