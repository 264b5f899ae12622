// A training step is `accumulate` for every microbatch but the last, then `step` on the last one, over one store. Loss, gradients,
// label and expert counts are sums until the update divides once. The first microbatch replaces the sums of the store and the others add
// to them, so nothing has to be cleared; a step of one microbatch keeps its gradients to itself and the store holds none. An aborted run
// leaves the weights as they were.
import {
  createGraph,
  type Device,
  differentiate,
  type Executable,
  type Graph,
  ops,
  type Store,
  type TensorData,
  tensor,
  type Value,
} from "@zaya/kernels";
import { buildLoss, type ModelConfig, parameters } from "@zaya/model";
import { fail } from "./errors.js";
import { addUpdate, countsName, gradientName, type Sums, updateInputs } from "./optimizer.js";
import type { RunOptions } from "./options.js";
import type { Batch } from "./windows.js";

/** Sums over the microbatches of one step. */
export interface StepSums {
  readonly lossSum: number;
  readonly labels: number;
  /** Norm of the mean gradient. */
  readonly gradNorm: number;
  /** Tokens of each class [E+1], a layer each; empty for a dense model. */
  readonly counts: readonly Float32Array[];
}

export interface TrainingStep extends AsyncDisposable {
  /** Bytes of the arena that its executables share. */
  readonly arenaBytes: number;
  /** What it runs, by name; only `step` where a step is one microbatch. */
  readonly graphs: Readonly<Record<string, Graph>>;
  /** Updates the weights with the mean gradient of the microbatches, `accumulation` of them. `number` counts from 1. */
  run(batches: readonly Batch[], number: number, learningRate: number): Promise<StepSums>;
  /** Like `run`, and returns the nanoseconds of every operation that ran, by name. */
  profile(
    batches: readonly Batch[],
    number: number,
    learningRate: number,
  ): Promise<{ sums: StepSums; times: (readonly [string, number])[] }>;
}

export type StepOptions = Pick<RunOptions, "context" | "windows" | "accumulation" | "optimizer" | "balanceRate" | "dtype">;

/** Compiles a step for a store that holds float32 weights and the tensors of `allocateTrainingState`. */
export function compileStep(device: Device, store: Store, config: ModelConfig, options: StepOptions): TrainingStep {
  const { accumulation, optimizer } = options;
  const first = accumulation > 1 ? accumulateGraph(config, options, "first") : null;
  const next = accumulation > 2 ? accumulateGraph(config, options, "next") : null;
  const last = stepGraph(config, options);
  const executables = [first, next, last].map((graph) => graph && device.compile(graph, store));
  const compiled = executables.filter((executable) => executable !== null);
  const wanted = new Set(last.nodes.filter(({ kind }) => kind === "input").map(({ name }) => name));

  async function step(
    batches: readonly Batch[],
    number: number,
    learningRate: number,
    execute: (executable: Executable, inputs: Record<string, TensorData>) => Promise<Record<string, TensorData>>,
  ): Promise<StepSums> {
    if (batches.length !== accumulation) fail("INVALID_OPTIONS", `a step takes ${accumulation} microbatches, received ${batches.length}`);
    let results: Record<string, TensorData> = {};
    let labels = 0;
    for (const [i, batch] of batches.entries()) {
      const isLast = i + 1 === accumulation;
      labels += batch.labels.reduce((count, label) => count + Number(label >= 0), 0);
      const numbers = { ...updateInputs(number, learningRate, options), label_count: Float32Array.of(labels) };
      const update = isLast ? Object.entries(numbers).filter(([name]) => wanted.has(name)) : [];
      const executable = executables[isLast ? 2 : Math.min(i, 1)] as Executable;
      results = await execute(executable, { ...batchInputs(batch), labels: batch.labels, ...Object.fromEntries(update) });
    }
    const scalar = (name: string) => (results[name] as Float32Array)[0] as number;
    const layers = config.kind === "zaya" ? config.numLayers : 0;
    return {
      lossSum: scalar("loss_sum"),
      labels,
      gradNorm: Math.sqrt(scalar("sum_of_squares")) / labels,
      counts: Array.from({ length: layers }, (_, layer) => results[countsName(layer)] as Float32Array),
    };
  }

  return {
    arenaBytes: Math.max(...compiled.map(({ arenaBytes }) => arenaBytes)),
    graphs: { ...(first && { accumulate: first }), step: last },
    run: (batches, number, learningRate) => step(batches, number, learningRate, (executable, inputs) => executable.run({ inputs })),
    async profile(batches, number, learningRate) {
      const times: (readonly [string, number])[] = [];
      const sums = await step(batches, number, learningRate, async (executable, inputs) => {
        const { outputs, nanoseconds } = await executable.profile({ inputs });
        executable.steps.forEach((name, i) => {
          times.push([name, nanoseconds[i] as number]);
        });
        return outputs;
      });
      return { sums, times };
    },
    async [Symbol.asyncDispose]() {
      for (const executable of compiled) await executable[Symbol.asyncDispose]();
    },
  };

  /** Forward, backward and the update. */
  function stepGraph(config: ModelConfig, options: StepOptions): Graph {
    const graph = createGraph();
    const sums = microbatch(graph, config, options);
    addUpdate(
      graph,
      config,
      optimizer,
      accumulation > 1 ? mapSums(sums, (name, value) => ops.add(graph.read(name, value.type), value)) : sums,
    );
    return graph;
  }
}

/** The inputs of a forward pass. */
export function batchInputs({ ids, positions, cuSeqlens }: Batch): Record<string, Int32Array> {
  return { ids, positions, cu_seqlens: cuSeqlens };
}

/** Adds a microbatch to the sums of the store, or puts its own in their place. */
function accumulateGraph(config: ModelConfig, options: StepOptions, place: "first" | "next"): Graph {
  const graph = createGraph();
  mapSums(microbatch(graph, config, options), (name, value) => {
    graph.assign(name, place === "first" ? value : ops.add(graph.read(name, value.type), value));
    return value;
  });
  return graph;
}

/** Forward and backward of one microbatch. */
function microbatch(graph: Graph, config: ModelConfig, { context, windows, dtype }: StepOptions): Sums {
  const maxTokens = context * windows;
  const { lossSum, forward } = buildLoss(graph, config, {
    maxTokens,
    maxSequences: maxTokens,
    weights: { dtype: "float32", encoding: "plain" },
    compute: dtype,
    training: true,
  });
  const trained = parameters(config).filter(({ kind }) => kind !== "balancing");
  const gradients = differentiate(
    lossSum,
    trained.map(({ name, shape }) => graph.read(name, tensor("float32", shape))),
  );
  return {
    lossSum,
    gradients: new Map(trained.map(({ name }, i) => [name, gradients[i] as Value])),
    counts: forward.layers.flatMap(({ routing }) => (routing ? [routing.counts] : [])),
  };
}

/** Every sum under the name that it has in the store. */
function mapSums({ lossSum, gradients, counts }: Sums, map: (name: string, value: Value) => Value): Sums {
  return {
    lossSum: map("loss_sum", lossSum),
    gradients: new Map([...gradients].map(([name, value]) => [name, map(gradientName(name), value)])),
    counts: counts.map((value, layer) => map(countsName(layer), value)),
  };
}
