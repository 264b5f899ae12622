import { createGraph, type Device, type Executable, openDevice, ops, type Store, size, tensor } from "@zaya/kernels";
import { type Checkpoint, loadCheckpoint } from "../checkpoint.js";
import { fail } from "../errors.js";
import { forward } from "../graph/forward.js";
import { raggedInputs } from "../graph/inputs.js";
import { readTokenizerFiles } from "../save.js";
import { exactStorage, loadWeights } from "../weights.js";
import { expectRoomToRun } from "./expect_room.js";
import { longestWindow, textWindows, tokenizerFor, type WindowOptions, windowInputs } from "./windows.js";

export interface CompareOptions extends WindowOptions {
  /** Folder of the model that is right, with its tokenizer. */
  readonly reference: string;
  /** Folder of the model that is judged: the same architecture and vocabulary. */
  readonly candidate: string;
  readonly text: string;
  readonly threads?: number | undefined;
  /** Told while the weights of either model are read: bytes done, and bytes of all. */
  readonly onProgress?: ((doneBytes: number, totalBytes: number) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** How near one model is to another on a text. */
export interface Comparison {
  /** Positions that were compared. */
  readonly tokens: number;
  /** Mean over positions of Σ p log (p / q), in nats: p of the reference, q of the candidate. */
  readonly meanKl: number;
  /** Share of positions at which both models find the same token most probable. */
  readonly topAgreement: number;
  /** exp of the mean −log p of the token that follows. */
  readonly perplexity: { readonly reference: number; readonly candidate: number };
  /** A layer each: share of tokens that go to the same expert. Empty for a model without experts. */
  readonly routingAgreement: readonly number[];
}

export type CompareEvent =
  | { readonly type: "window-end"; readonly tokens: number; readonly totalTokens: number; readonly meanKl: number }
  | ({ readonly type: "compare-end" } & Comparison);

/** Rows of logits that are held at once, of each model. */
const logitBytes = 64 * 1024 * 1024;

/**
 * Runs two models over the same text and compares what they expect at every position and where they send it. Both models must fit into memory,
 * except that the run layout is mapped.
 *
 * @throws CHECKPOINT_INVALID, INVALID_ARGUMENT, or the signal's reason
 * @example for await (const event of compareCheckpoints({ reference: "zaya1-8b", candidate: "zaya1-8b-q4", text })) console.log(event);
 */
export async function* compareCheckpoints(options: CompareOptions): AsyncGenerator<CompareEvent, void, undefined> {
  const { threads, signal } = options;
  await using reference = await loadCheckpoint(options.reference);
  await using candidate = await loadCheckpoint(options.candidate);
  expectSame(reference, candidate, options.candidate);
  expectRoomToRun([reference, candidate], "comparing");
  const tokenizerFiles = await readTokenizerFiles(options.reference);
  if (!("tokenizer.json" in tokenizerFiles))
    fail("INVALID_ARGUMENT", `${options.reference}: comparing needs the checkpoint's tokenizer.json`);
  const windows = textWindows(await tokenizerFor(tokenizerFiles, reference.config.vocabSize), options.text, options);
  const maxTokens = longestWindow(windows);

  await using device = await openDevice("cpu", threads === undefined ? {} : { threads });
  await using first = await openModel(device, reference, maxTokens, options);
  await using second = await openModel(device, candidate, maxTokens, options);
  const sums = { tokens: 0, kl: 0, same: 0, reference: 0, candidate: 0, labels: 0 };
  const routed = Array.from({ length: reference.config.kind === "zaya" ? reference.config.numLayers : 0 }, () => 0);
  const totalTokens = windows.reduce((sum, { length }) => sum + length, 0);
  for (const ids of windows) {
    const a = await first.run(ids, signal);
    const b = await second.run(ids, signal);
    for (const [layer, index] of a.routing.entries()) {
      const other = b.routing[layer] as Int32Array;
      routed[layer] = (routed[layer] as number) + index.reduce((same, e, t) => same + (e === other[t] ? 1 : 0), 0);
    }
    for (let begin = 0; begin < ids.length; begin += first.maxRows) {
      const rows = Int32Array.from({ length: Math.min(first.maxRows, ids.length - begin) }, (_, i) => begin + i);
      const p = await first.logits(a.hidden, rows);
      const q = await second.logits(b.hidden, rows);
      for (const [i, row] of rows.entries()) compareRow(rowOf(p, i, rows.length), rowOf(q, i, rows.length), ids[row + 1], sums);
    }
    sums.tokens += ids.length;
    yield { type: "window-end", tokens: sums.tokens, totalTokens, meanKl: sums.kl / sums.tokens };
  }
  yield {
    type: "compare-end",
    tokens: sums.tokens,
    meanKl: sums.kl / sums.tokens,
    topAgreement: sums.same / sums.tokens,
    perplexity: { reference: Math.exp(sums.reference / sums.labels), candidate: Math.exp(sums.candidate / sums.labels) },
    routingAgreement: routed.map((same) => same / sums.tokens),
  };
}

function expectSame(reference: Checkpoint, candidate: Checkpoint, dir: string): void {
  for (const [name, { shape }] of reference.tensors) {
    const other = candidate.tensors.get(name)?.shape;
    if (other?.join() !== shape.join())
      fail(
        "INVALID_ARGUMENT",
        `${dir}: tensor ${name} is [${other?.join(", ") ?? "not there"}], that of the reference [${shape.join(", ")}]`,
      );
  }
  for (const name of candidate.tensors.keys())
    if (!reference.tensors.has(name)) fail("INVALID_ARGUMENT", `${dir}: the reference has no tensor ${name}`);
}

interface Model extends AsyncDisposable {
  /** Rows of logits that `logits` gives at most. */
  readonly maxRows: number;
  /** The hidden states [T,D] before the head, and a layer each the expert of every token. */
  run(ids: Int32Array, signal: AbortSignal | undefined): Promise<{ hidden: Float32Array; routing: readonly Int32Array[] }>;
  /** [R,V] */
  logits(hidden: Float32Array, rows: Int32Array): Promise<Float32Array>;
}

async function openModel(
  device: Device,
  checkpoint: Checkpoint,
  maxTokens: number,
  { onProgress, signal }: Pick<CompareOptions, "onProgress" | "signal">,
): Promise<Model> {
  const { config } = checkpoint;
  const store: Store = device.createStore();
  const weights = exactStorage(checkpoint);
  await loadWeights(store, checkpoint, { ...weights, ...(onProgress ? { onProgress } : {}), ...(signal ? { signal } : {}) });
  const graph = createGraph();
  const model = forward(graph, config, raggedInputs(graph, maxTokens, 1), { weights });
  graph.output("hidden", model.hidden);
  for (const [layer, { routing }] of model.layers.entries()) if (routing) graph.output(`routing ${layer}`, routing.index);
  const body: Executable = device.compile(graph, store);

  const maxRows = Math.max(1, Math.min(maxTokens, Math.floor(logitBytes / (4 * config.vocabSize))));
  const top = createGraph();
  const hidden = top.input("hidden", tensor("float32", [size("R", maxRows), config.hiddenSize]));
  const read = (name: string) => top.read(name, store.typeOf(name));
  const bias = model.headBias ? { bias: read(model.headBias.node.name) } : {};
  top.output("logits", ops.linear(hidden, read(model.head.node.name), { compute: model.compute, ...bias }));
  const head: Executable = device.compile(top, store);
  return {
    maxRows,
    async run(ids, abort) {
      const outputs = await body.run({ inputs: windowInputs(ids), ...(abort ? { signal: abort } : {}) });
      const routing = model.layers.flatMap((_, layer) => (outputs[`routing ${layer}`] ? [outputs[`routing ${layer}`] as Int32Array] : []));
      return { hidden: outputs.hidden as Float32Array, routing };
    },
    async logits(whole, rows) {
      const { hiddenSize: D } = config;
      const first = rows[0] ?? 0;
      const { logits } = await head.run({ inputs: { hidden: whole.subarray(first * D, (first + rows.length) * D) } });
      return logits as Float32Array;
    },
    async [Symbol.asyncDispose]() {
      await body[Symbol.asyncDispose]();
      await head[Symbol.asyncDispose]();
      await store[Symbol.asyncDispose]();
    },
  };
}

function rowOf(logits: Float32Array, i: number, rows: number): Float32Array {
  const columns = logits.length / rows;
  return logits.subarray(i * columns, (i + 1) * columns);
}

/** Adds one position to the sums; `label` is the token that follows, if any. */
function compareRow(
  p: Float32Array,
  q: Float32Array,
  label: number | undefined,
  sums: { kl: number; same: number; reference: number; candidate: number; labels: number },
): void {
  const a = statistics(p);
  const b = statistics(q);
  let kl = 0;
  for (let v = 0; v < p.length; v++) {
    const logP = (p[v] as number) - a.logSum;
    kl += Math.exp(logP) * (logP - (q[v] as number) + b.logSum);
  }
  sums.kl += Math.max(0, kl);
  if (a.top === b.top) sums.same++;
  if (label === undefined) return;
  sums.reference += a.logSum - (p[label] as number);
  sums.candidate += b.logSum - (q[label] as number);
  sums.labels++;
}

/** The most probable token, the first of equals, and log Σ exp. */
function statistics(logits: Float32Array): { readonly top: number; readonly logSum: number } {
  let top = 0;
  for (let v = 1; v < logits.length; v++) if ((logits[v] as number) > (logits[top] as number)) top = v;
  const most = logits[top] as number;
  let sum = 0;
  for (let v = 0; v < logits.length; v++) sum += Math.exp((logits[v] as number) - most);
  return { top, logSum: most + Math.log(sum) };
}
