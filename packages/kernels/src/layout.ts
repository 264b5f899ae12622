import { fail } from "./errors.js";
import type { Graph, Value } from "./graph.js";
import type { Schedule } from "./schedule.js";
import { maxBytes, sameShape } from "./types.js";

/** Where a value lives: at an offset of the arena, or in a tensor of the store. */
export type Place = { readonly kind: "arena"; readonly offset: number } | { readonly kind: "store"; readonly name: string };

export interface Layout {
  readonly places: ReadonlyMap<Value, Place>;
  /** Offset of the workspace. */
  readonly workspace: number;
  readonly arenaBytes: number;
}

interface Buffer {
  bytes: number;
  first: number;
  last: number;
  offset: number;
}

const alignment = 64;
const always = Number.MAX_SAFE_INTEGER;

/**
 * Gives every value of a scheduled graph its memory, at the maxima of all sizes. Buffers whose lives do not overlap share bytes;
 * the larger are placed first, each at the lowest offset where it fits. All steps have their workspace at one place, which is thus in the
 * caches: where threads have none in common, memory that another thread used last is slow to write.
 *
 * @param workspaceBytes of each step
 * @param guardBytes kept free behind each buffer
 */
export function layOut(graph: Graph, { steps, updates, copies }: Schedule, workspaceBytes: readonly number[], guardBytes: number): Layout {
  const lastUse = lastUses(graph, { steps, copies });
  const stored = new Map<Value, string>(updates);
  const buffers = new Map<Value, Buffer>();
  const all: Buffer[] = [];
  const newBuffer = (bytes: number, first: number, last: number) => {
    const buffer = { bytes: bytes + guardBytes, first, last, offset: 0 };
    all.push(buffer);
    return buffer;
  };
  const position = new Map(steps.map((node, i) => [node, i]));

  for (const node of graph.nodes) {
    const step = position.get(node);
    for (const value of node.outputs) {
      const source = node.operation?.view ? (node.inputs[0] as Value) : null;
      if (node.kind === "read") stored.set(value, node.name);
      else if (source && stored.has(source)) stored.set(value, stored.get(source) as string);
      else if (source && buffers.has(source)) buffers.set(value, buffers.get(source) as Buffer);
      else if (source || stored.has(value) || (node.kind === "operation" && step === undefined)) continue;
      else if (node.kind === "input" && !lastUse.has(value)) continue;
      else buffers.set(value, newBuffer(maxBytes(value.type), step ?? -1, lastUse.get(value) ?? step ?? -1));
    }
  }
  reuseInPlace();
  const workspace = newBuffer(Math.max(0, ...workspaceBytes), -1, always);
  const arenaBytes = placeBuffers(all.filter((buffer) => buffer.bytes > 0));
  if (!Number.isSafeInteger(arenaBytes)) fail("INVALID_ARGUMENT", "the graph's values are larger than any memory");

  const places = new Map<Value, Place>();
  for (const [value, name] of stored) places.set(value, { kind: "store", name });
  for (const [value, buffer] of buffers) places.set(value, { kind: "arena", offset: buffer.offset });
  return { places, workspace: workspace.offset, arenaBytes };

  /** Lets an output take over the buffer of an input that dies at the same step, where the operation allows it. */
  function reuseInPlace(): void {
    steps.forEach((node, step) => {
      for (const [output, input] of node.operation?.inPlace ?? []) {
        const to = node.outputs[output];
        const from = node.inputs[input];
        const target = to && buffers.get(to);
        const source = from && buffers.get(from);
        if (!target || !source || target === source || source.last !== step || target.first !== step) continue;
        // A value given twice to one operation may be read out of order through its other input.
        if (node.inputs.filter((other) => other && buffers.get(other) === source).length > 1) continue;
        if (!sameShape(to.type.shape, from.type.shape) || to.type.dtype !== from.type.dtype || to.type.encoding !== from.type.encoding)
          continue;
        source.last = target.last;
        for (const [value, buffer] of buffers) if (buffer === target) buffers.set(value, source);
        all.splice(all.indexOf(target), 1);
      }
    });
  }
}

/** The last step that reads each value, views counting for what they view. */
function lastUses(graph: Graph, { steps, copies }: Pick<Schedule, "steps" | "copies">): Map<Value, number> {
  const last = new Map<Value, number>();
  const use = (value: Value, step: number) => {
    for (let at = value; ; at = at.node.inputs[0] as Value) {
      last.set(at, Math.max(last.get(at) ?? -1, step));
      if (!at.node.operation?.view) return;
    }
  };
  steps.forEach((node, step) => {
    for (const input of node.inputs) if (input) use(input, step);
  });
  for (const value of graph.outputs.values()) use(value, always);
  for (const [value] of copies) use(value, always);
  return last;
}

function placeBuffers(buffers: readonly Buffer[]): number {
  const placed: Buffer[] = [];
  let total = 0;
  for (const buffer of [...buffers].sort((a, b) => b.bytes - a.bytes || a.first - b.first)) {
    const size = Math.ceil(buffer.bytes / alignment) * alignment;
    let offset = 0;
    for (const other of placed) {
      if (other.first > buffer.last || other.last < buffer.first) continue;
      if (other.offset >= offset + size) break;
      offset = Math.max(offset, other.offset + Math.ceil(other.bytes / alignment) * alignment);
    }
    buffer.offset = offset;
    total = Math.max(total, offset + size);
    const at = placed.findIndex((other) => other.offset > offset);
    placed.splice(at < 0 ? placed.length : at, 0, buffer);
  }
  return total;
}
