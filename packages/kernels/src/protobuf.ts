import protobuf from "protobufjs/light.js";
import { fail, isZayaError } from "./errors.js";
import { apply, createGraph, type Graph, type Value } from "./graph.js";
import { registry } from "./ops/registry.js";
import { reshape } from "./ops/reshape.js";
import { type Dimension, type DType, type Encoding, type TensorType, tensor } from "./types.js";

/** Version of the persisted form; a reader refuses another. */
export const graphFormatVersion = 1;

const definitions: protobuf.INamespace = {
  nested: {
    Dimension: {
      fields: {
        fixed: { type: "uint64", id: 1 },
        name: { type: "string", id: 2 },
        max: { type: "uint64", id: 3 },
        times: { type: "int64", id: 4 },
        plus: { type: "int64", id: 5 },
      },
    },
    Type: {
      fields: {
        dtype: { type: "string", id: 1 },
        encoding: { type: "string", id: 2 },
        shape: { rule: "repeated", type: "Dimension", id: 3 },
      },
    },
    // node is the 1-based number of the node; 0 stands for an input that is absent.
    Edge: { fields: { node: { type: "uint32", id: 1 }, output: { type: "uint32", id: 2 } } },
    Node: {
      fields: {
        kind: { type: "string", id: 1 },
        name: { type: "string", id: 2 },
        inputs: { rule: "repeated", type: "Edge", id: 3 },
        attributes: { keyType: "string", type: "double", id: 4 } as protobuf.IMapField,
        types: { rule: "repeated", type: "Type", id: 5 },
      },
    },
    Named: { fields: { name: { type: "string", id: 1 }, value: { type: "Edge", id: 2 } } },
    Graph: {
      fields: {
        formatVersion: { type: "uint32", id: 1 },
        nodes: { rule: "repeated", type: "Node", id: 2 },
        outputs: { rule: "repeated", type: "Named", id: 3 },
        assigns: { rule: "repeated", type: "Named", id: 4 },
      },
    },
  },
};
const schema = protobuf.Root.fromJSON(definitions).lookupType("Graph");

interface GraphMessage {
  formatVersion: number;
  nodes: {
    kind: "input" | "read" | "operation";
    name: string;
    inputs: EdgeMessage[];
    attributes: Record<string, number>;
    types: TypeMessage[];
  }[];
  outputs: { name: string; value: EdgeMessage }[];
  assigns: { name: string; value: EdgeMessage }[];
}
interface EdgeMessage {
  node: number;
  output: number;
}
interface TypeMessage {
  dtype: string;
  encoding: string;
  shape: { fixed: number; name: string; max: number; times: number; plus: number }[];
}

/** A graph as protobuf: what is kept beside a checkpoint to tell what was run. Read it with {@link decodeGraph}. */
export function encodeGraph(graph: Graph): Uint8Array {
  const edge = (value: Value | null): EdgeMessage => (value ? { node: value.node.id + 1, output: value.index } : { node: 0, output: 0 });
  const named = (values: ReadonlyMap<string, Value>) => [...values].map(([name, value]) => ({ name, value: edge(value) }));
  const message: GraphMessage = {
    formatVersion: graphFormatVersion,
    nodes: graph.nodes.map((node) => ({
      kind: node.kind,
      name: node.name,
      inputs: node.inputs.map(edge),
      attributes: { ...node.attributes },
      types: node.outputs.map(({ type }) => typeMessage(type)),
    })),
    outputs: named(graph.outputs),
    assigns: named(graph.assigns),
  };
  return schema.encode(schema.fromObject(message)).finish();
}

/**
 * Rebuilds a graph from its protobuf, ready to be compiled.
 * @throws FORMAT_UNSUPPORTED for bytes that are no graph, another version or an operation this package does not have
 */
export function decodeGraph(bytes: Uint8Array): Graph {
  try {
    return rebuild(schema.toObject(schema.decode(bytes), { longs: Number, defaults: true }) as GraphMessage);
  } catch (cause) {
    if (isZayaError(cause) && cause.code === "FORMAT_UNSUPPORTED") throw cause;
    return fail("FORMAT_UNSUPPORTED", `the bytes are no graph: ${cause instanceof Error ? cause.message : String(cause)}`, cause);
  }
}

function rebuild(message: GraphMessage): Graph {
  if (message.formatVersion !== graphFormatVersion) {
    fail("FORMAT_UNSUPPORTED", `the graph has format version ${message.formatVersion}; this package reads ${graphFormatVersion}`);
  }
  const known = new Map(registry.map((operation) => [operation.name, operation]));
  const graph = createGraph();
  const results: (readonly Value[])[] = [];
  const valueOf = ({ node, output }: EdgeMessage) => (node === 0 ? null : ((results[node - 1]?.[output] as Value | undefined) ?? null));
  for (const { kind, name, inputs, attributes, types } of message.nodes) {
    const type = readType(types[0] as TypeMessage);
    if (kind !== "operation") {
      results.push([kind === "input" ? graph.input(name, type) : graph.read(name, type)]);
    } else if (name === "reshape") {
      results.push([reshape(valueOf(inputs[0] as EdgeMessage) as Value, type.shape)]);
    } else {
      const operation =
        known.get(name) ??
        fail("FORMAT_UNSUPPORTED", `the graph uses the operation ${name}, which this version of @zaya/kernels does not have`);
      results.push(apply(operation, inputs.map(valueOf), attributes));
    }
  }
  for (const { name, value } of message.outputs) graph.output(name, valueOf(value) as Value);
  for (const { name, value } of message.assigns) graph.assign(name, valueOf(value) as Value);
  return graph;
}

function typeMessage({ dtype, encoding, shape }: TensorType): TypeMessage {
  const dimension = (d: Dimension) =>
    typeof d === "number"
      ? { fixed: d, name: "", max: 0, times: 0, plus: 0 }
      : { fixed: 0, name: d.name, max: d.max, times: d.times, plus: d.plus };
  return { dtype, encoding, shape: shape.map(dimension) };
}

function readType({ dtype, encoding, shape }: TypeMessage): TensorType {
  const dimensions = shape.map(({ fixed, name, max, times, plus }): Dimension => (name === "" ? fixed : { name, max, times, plus }));
  return tensor(dtype as DType, dimensions, encoding as Encoding);
}
