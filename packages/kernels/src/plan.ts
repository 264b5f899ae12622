import { fail } from "./errors.js";
import type { Graph, Value } from "./graph.js";
import type { Layout } from "./layout.js";
import type { Schedule } from "./schedule.js";
import { type Dimension, type DType, type Encoding, maxBytes, type Size, type TensorType } from "./types.js";

/** Must equal plan_version in native/core/plan.h, where the format is described. */
export const planVersion = 2;

const encodingNumbers: Readonly<Record<Encoding, number>> = { plain: 0, panels: 1, rows: 2 };
const dtypeNumbers: Readonly<Record<DType, number>> = { float32: 0, bfloat16: 1, float64: 2, int32: 3, int8: 4, int6: 5, int4: 6 };

export interface PlanSource {
  readonly graph: Graph;
  readonly schedule: Schedule;
  readonly sizes: readonly Size[];
  /** Index of an operation in the addon's table, by name. */
  readonly operations: ReadonlyMap<string, number>;
  /** Slot of a tensor of the store, by name. */
  readonly slotOf: (name: string) => number;
}

/**
 * Writes the flat plan that native/core/plan.cpp reads. Without a layout all offsets are 0: enough to ask for workspaces.
 */
export function writePlan(source: PlanSource, layout: Layout | null, workspaceBytes: readonly number[], guardBytes: number): Float64Array {
  const { graph, schedule, sizes, operations, slotOf } = source;
  const sizeIndex = new Map(sizes.map((size, i) => [size.name, i]));
  const tensors: number[] = [];
  const index = new Map<Value, number>();

  const tensorOf = (value: Value): number => {
    const known = index.get(value);
    if (known !== undefined) return known;
    const place = layout?.places.get(value);
    addTensor(value.type, place?.kind === "store" ? slotOf(place.name) : null, place?.kind === "arena" ? place.offset : 0);
    index.set(value, index.size);
    return index.size - 1;
  };
  let extra = 0;
  const addTensor = (type: TensorType, slot: number | null, offset: number) => {
    const shape = type.shape.flatMap((dimension) => dimensionRule(dimension, sizeIndex));
    tensors.push(
      dtypeNumbers[type.dtype],
      encodingNumbers[type.encoding],
      slot === null ? 0 : 1,
      slot ?? offset,
      maxBytes(type),
      type.shape.length,
      ...shape,
    );
  };

  const steps = schedule.steps.flatMap((node, i) => {
    const attributes = (node.operation?.attributes ?? []).map((name) => node.attributes[name] ?? 0);
    return [
      operations.get(node.name) ?? -1,
      i >= schedule.tail ? 1 : 0,
      layout?.workspace ?? 0,
      workspaceBytes[i] ?? 0,
      node.inputs.length,
      ...node.inputs.map((input) => (input ? tensorOf(input) : -1)),
      node.outputs.length,
      ...node.outputs.map(tensorOf),
      attributes.length,
      ...attributes,
    ];
  });
  const inputs = inputValues(graph, layout).map(tensorOf);
  const outputs = [...graph.outputs.values()].map(tensorOf);
  const copies = schedule.copies.map(([value]) => tensorOf(value));
  // Targets of copies are tensors of the store that no node may have read; they come last.
  const targets = schedule.copies.map(([value, name]) => {
    addTensor(value.type, slotOf(name), 0);
    return index.size + extra++;
  });
  const pairs = copies.flatMap((from, i) => [from, targets[i] as number]);
  const header = [planVersion, sizes.length, index.size + extra, schedule.steps.length, inputs.length, outputs.length, copies.length];
  return Float64Array.from([...header, layout?.arenaBytes ?? 0, guardBytes, ...tensors, ...steps, ...inputs, ...outputs, ...pairs]);
}

/** The inputs that the plan takes, in order: those that some step, output or copy reads. */
export function inputValues(graph: Graph, layout: Layout | null): Value[] {
  return graph.nodes
    .filter((node) => node.kind === "input")
    .map((node) => node.outputs[0] as Value)
    .filter((value) => layout === null || layout.places.has(value));
}

/** Every size that a graph names, in order of first use. @throws INVALID_ARGUMENT when one has two maxima */
export function sizesOf(graph: Graph): Size[] {
  const found = new Map<string, Size>();
  for (const node of graph.nodes) {
    for (const { type } of node.outputs) {
      for (const dimension of type.shape) {
        if (typeof dimension === "number") continue;
        const { max } = found.get(dimension.name) ?? dimension;
        if (max !== dimension.max)
          fail("INVALID_ARGUMENT", `size ${dimension.name} has a max of ${max} and of ${dimension.max} in one graph`);
        found.set(dimension.name, { ...dimension, times: 1, plus: 0 });
      }
    }
  }
  return [...found.values()];
}

function dimensionRule(dimension: Dimension, sizeIndex: ReadonlyMap<string, number>): number[] {
  if (typeof dimension === "number") return [-1, 0, dimension];
  return [sizeIndex.get(dimension.name) ?? -1, dimension.times, dimension.plus];
}
