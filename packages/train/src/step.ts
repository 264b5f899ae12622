// A training step is `accumulate` × n, then `apply`, over one store. Loss, gradients, label and expert counts are sums until `apply`
// divides once. The first microbatch of a step replaces the sums and the others add to them, so nothing has to be cleared; an aborted
// run leaves the store as it was.
import { createGraph, type Device, differentiate, type Executable, type Graph, ops, type Store, tensor, type Value } from "@zaya/kernels";
import { buildLoss, type ModelConfig, parameters } from "@zaya/model";
import { addUpdate, countsName, gradientName, updateInputs } from "./optimizer.js";
import type { RunOptions } from "./options.js";
import type { Batch } from "./windows.js";

/** Sums of one step, as `apply` found them. */
export interface StepSums {
  readonly lossSum: number;
  readonly labels: number;
  /** Norm of the mean gradient. */
  readonly gradNorm: number;
  /** Tokens of each class [E+1], a layer each; empty for a dense model. */
  readonly counts: readonly Float32Array[];
}

export interface TrainingStep extends AsyncDisposable {
  /** Bytes of the largest arena among its executables. */
  readonly arenaBytes: number;
  /** What it runs, by name. */
  readonly graphs: { readonly accumulate: Graph; readonly apply: Graph };
  /** Adds a microbatch to the sums; `first` starts them. */
  accumulate(batch: Batch, first: boolean): Promise<void>;
  /** Updates the weights with what was accumulated. `step` counts from 1. */
  apply(step: number, learningRate: number): Promise<StepSums>;
}

type StepOptions = Pick<RunOptions, "context" | "windows" | "accumulation" | "optimizer" | "balanceRate" | "dtype">;

/** Compiles a step for a store that holds float32 weights and the tensors of `allocateTrainingState`. */
export function compileStep(device: Device, store: Store, config: ModelConfig, options: StepOptions): TrainingStep {
  const update = createGraph();
  addUpdate(update, config, options.optimizer);
  const apply = device.compile(update, store);
  const accumulate = accumulateGraph(config, options, true);
  const first = device.compile(accumulate, store);
  const next = options.accumulation > 1 ? device.compile(accumulateGraph(config, options, false), store) : null;
  const executables: Executable[] = [apply, first, ...(next ? [next] : [])];
  const wanted = new Set(update.nodes.filter(({ kind }) => kind === "input").map(({ name }) => name));
  let labels = 0;
  return {
    arenaBytes: Math.max(...executables.map(({ arenaBytes }) => arenaBytes)),
    graphs: { accumulate, apply: update },
    async accumulate(batch, starts) {
      const executable = starts ? first : (next ?? first);
      await executable.run({ inputs: { ...batchInputs(batch), labels: batch.labels } });
      labels = (starts ? 0 : labels) + batch.labels.reduce((count, label) => count + Number(label >= 0), 0);
    },
    async apply(step, learningRate) {
      const numbers = { ...updateInputs(step, learningRate, options), label_count: Float32Array.of(labels) };
      const results = await apply.run({ inputs: Object.fromEntries(Object.entries(numbers).filter(([name]) => wanted.has(name))) });
      const scalar = (name: string) => (results[name] as Float32Array)[0] as number;
      return {
        lossSum: scalar("loss_sum"),
        labels,
        gradNorm: Math.sqrt(scalar("sum_of_squares")) / labels,
        counts: Array.from(
          { length: config.kind === "zaya" ? config.numLayers : 0 },
          (_, layer) => results[countsName(layer)] as Float32Array,
        ),
      };
    },
    async [Symbol.asyncDispose]() {
      for (const executable of executables) await executable[Symbol.asyncDispose]();
    },
  };
}

/** The inputs of a forward pass. */
export function batchInputs({ ids, positions, cuSeqlens }: Batch): Record<string, Int32Array> {
  return { ids, positions, cu_seqlens: cuSeqlens };
}

/** Forward, backward and the sums of one microbatch. */
function accumulateGraph(config: ModelConfig, { context, windows, dtype }: StepOptions, first: boolean): Graph {
  const graph = createGraph();
  const maxTokens = context * windows;
  const { lossSum, forward } = buildLoss(graph, config, {
    maxTokens,
    maxSequences: maxTokens,
    weights: { dtype: "float32", encoding: "plain" },
    compute: dtype,
  });
  const accumulate = (name: string, value: Value) => graph.assign(name, first ? value : ops.add(graph.read(name, value.type), value));
  const trained = parameters(config).filter(({ kind }) => kind !== "balancing");
  const gradients = differentiate(
    lossSum,
    trained.map(({ name, shape }) => graph.read(name, tensor("float32", shape))),
  );
  trained.forEach(({ name }, i) => {
    accumulate(gradientName(name), gradients[i] as Value);
  });
  accumulate("loss_sum", lossSum);
  forward.layers.forEach(({ routing }, layer) => {
    if (routing) accumulate(countsName(layer), routing.counts);
  });
  return graph;
}
