import { createGraph, type Device, differentiate, type Graph, type Node, ops, type Store, tensor, type Value } from "@zaya/kernels";
import type { Checkpoint } from "../checkpoint.js";
import { type Forward, forward } from "../graph/forward.js";
import { raggedInputs } from "../graph/inputs.js";
import { exactStorage, loadWeights } from "../weights.js";
import { longestWindow, windowInputs } from "./windows.js";

/** By the name of a weight [..,N,K], how much each of its columns counts: [K], or [E,K] for experts, each matrix with a mean of 1. */
export type Importance = ReadonlyMap<string, Float32Array>;

export interface CalibrateWindow {
  readonly type: "calibrate-window";
  readonly done: number;
  readonly total: number;
}

/** What a column counts at least, of the mean: a column that these texts never used may be used by others. */
const floor = 0.01;

/**
 * Runs a model over windows of tokens and collects the mean square of what every weight is multiplied by, column by column. The error
 * of y = W x that comes from an error of one column of W is in proportion to the mean square of that column of x.
 *
 * The sums are gradients: x² [T,K] times a probe w [1,K] has Σ x² for its gradient, and grouped by expert [E,1,K] it has one sum an expert.
 */
export async function* measureImportance(
  checkpoint: Checkpoint,
  windows: readonly Int32Array[],
  {
    device,
    onProgress,
    signal,
  }: {
    readonly device: Device;
    readonly onProgress?: ((doneBytes: number, totalBytes: number) => void) | undefined;
    readonly signal?: AbortSignal | undefined;
  },
): AsyncGenerator<CalibrateWindow, Importance, undefined> {
  const { config } = checkpoint;
  await using store = device.createStore();
  const weights = exactStorage(checkpoint);
  await loadWeights(store, checkpoint, { ...weights, ...(onProgress ? { onProgress } : {}), ...(signal ? { signal } : {}) });
  const graph = createGraph();
  const model = forward(graph, config, raggedInputs(graph, longestWindow(windows), 1), { weights });
  const shapes = addSums(graph, store, model);
  await using executable = device.compile(graph, store);
  for (const [i, window] of windows.entries()) {
    await executable.run({ inputs: windowInputs(window), ...(signal ? { signal } : {}) });
    yield { type: "calibrate-window", done: i + 1, total: windows.length };
  }
  return new Map([...shapes].map(([name, columns]) => [name, normalise(store.read(sumName(name)) as Float32Array, columns)]));
}

const sumName = (weight: string) => `importance.${weight}`;

/** Adds sums of squares for every product with a matrix or an expert, and for the head. Returns the columns of each weight. */
function addSums(graph: Graph, store: Store, model: Forward): ReadonlyMap<string, number> {
  const columns = new Map<string, number>();
  const add = (weight: string, x: Value, offsets: Value | null) => {
    const K = x.type.shape.at(-1) as number;
    const experts = offsets ? (offsets.type.shape[0] as number) - 2 : 0;
    const type = tensor("float32", offsets ? [experts, 1, K] : [1, K]);
    store.allocate(sumName(weight), type);
    const probeName = `probe ${type.shape.join(" ")}`;
    if (!store.has(probeName)) store.allocate(probeName, type);
    const probe = graph.read(probeName, type);
    const squares = ops.multiply(x, x);
    const [sums] = differentiate(offsets ? ops.groupedLinear(squares, probe, offsets) : ops.linear(squares, probe), [probe]);
    graph.assign(sumName(weight), ops.add(graph.read(sumName(weight), type), sums as Value));
    columns.set(weight, K);
  };
  for (const { name, inputs } of [...graph.nodes] as Node[]) {
    const [x, w, offsets] = inputs;
    if (x && w?.node.kind === "read" && name === "linear" && !isRouter(w.node.name)) add(w.node.name, x, null);
    if (x && w?.node.kind === "read" && name === "grouped_linear" && offsets) add(w.node.name, x, offsets);
  }
  add(model.head.node.name, model.hidden, null);
  return columns;
}

function isRouter(name: string): boolean {
  return name.includes(".mlp.gate.");
}

/** Each row of K columns divided by its mean, at least `floor`; ones where nothing was seen. */
function normalise(sums: Float32Array, columns: number): Float32Array {
  const importance = new Float32Array(sums.length);
  for (let begin = 0; begin < sums.length; begin += columns) {
    const row = sums.subarray(begin, begin + columns);
    const mean = row.reduce((total, x) => total + x, 0) / columns;
    for (let k = 0; k < columns; k++) importance[begin + k] = mean > 0 ? Math.max(floor, (row[k] as number) / mean) : 1;
  }
  return importance;
}
