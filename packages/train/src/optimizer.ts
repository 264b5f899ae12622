// The update of one step: global norm, clipping, AdamW or Muon for each parameter, and the balancer.
//   scale = min(1, clip / ‖g / n‖) / n for a gradient g that is a sum over n labels
//   AdamW (torch.optim.AdamW) with float32 weights and moments; Muon per matrix with update size matched to AdamW's
//   balancing biases: AdamW without decay on (share of the whole batch − 1/E) at its own constant rate; the skip bias has gradient 0
//   and so stays where it is (ZAYA1 report, arXiv 2511.17127, equation 5)
import { type Graph, ops, type Store, tensor, type Value } from "@zaya/kernels";
import { type ModelConfig, type ParameterSpec, parameters } from "@zaya/model";
import type { RunOptions } from "./options.js";

export type Rule = "adamw" | "muon" | "balance";

/** How a parameter is updated and whether it decays. */
export function ruleOf(spec: ParameterSpec, { name, decay }: RunOptions["optimizer"]): { rule: Rule; decays: boolean } {
  if (spec.kind === "balancing") return { rule: "balance", decays: false };
  const matrix = spec.kind !== "vector" && spec.kind !== "convolution";
  const hidden = spec.kind === "matrix" || spec.kind === "router" || spec.kind === "expert";
  return { rule: name === "muon" && hidden ? "muon" : "adamw", decays: matrix || decay === "all" };
}

/** Names of the optimizer's tensors for a parameter, all float32 and of its shape. */
export function stateNames(spec: ParameterSpec, optimizer: RunOptions["optimizer"]): readonly string[] {
  const { rule } = ruleOf(spec, optimizer);
  return rule === "muon" ? [`muon.momentum.${spec.name}`] : [`adamw.m.${spec.name}`, `adamw.v.${spec.name}`];
}

/** Name of the tensor that holds the sum of a parameter's gradients over the microbatches of a step. */
export function gradientName(name: string): string {
  return `grad.${name}`;
}

/** Name of the tensor that holds the tokens of each class of a layer in this step, [E+1]. */
export function countsName(layer: number): string {
  return `counts.${layer}`;
}

/** Makes the tensors that training needs beside the weights, as zeros. Sums are kept in the store only between microbatches. */
export function allocateTrainingState(
  store: Store,
  config: ModelConfig,
  { optimizer, accumulation }: Pick<RunOptions, "optimizer" | "accumulation">,
): void {
  for (const spec of parameters(config)) {
    for (const name of stateNames(spec, optimizer)) store.allocate(name, tensor("float32", spec.shape));
    if (spec.kind !== "balancing" && accumulation > 1) store.allocate(gradientName(spec.name), tensor("float32", spec.shape));
  }
  if (accumulation === 1) return;
  if (config.kind === "zaya") {
    for (let layer = 0; layer < config.numLayers; layer++) store.allocate(countsName(layer), tensor("float32", [config.numExperts + 1]));
  }
  store.allocate("loss_sum", tensor("float32", [1]));
}

/** Numbers of one update, inputs of the graph that `addUpdate` builds. */
export function updateInputs(
  step: number,
  learningRate: number,
  { optimizer, balanceRate }: Pick<RunOptions, "optimizer" | "balanceRate">,
): Record<string, Float32Array> {
  const { beta1, beta2, eps, weightDecay, momentum, name } = optimizer;
  const inputs: Record<string, Float32Array> = {
    "hyper.decayed": Float32Array.of(learningRate, beta1, beta2, eps, weightDecay, step),
    "hyper.plain": Float32Array.of(learningRate, beta1, beta2, eps, 0, step),
    "hyper.balance": Float32Array.of(balanceRate, beta1, beta2, eps, 0, step),
  };
  if (name === "muon") inputs["hyper.muon"] = Float32Array.of(learningRate, momentum, weightDecay, 1);
  return inputs;
}

/** What the microbatches of a step add up to. */
export interface Sums {
  /** [1] */
  readonly lossSum: Value;
  /** Of every parameter but the balancing biases, by name. */
  readonly gradients: ReadonlyMap<string, Value>;
  /** [E+1], tokens of each class; a layer each, none in a dense model. */
  readonly counts: readonly Value[];
}

/**
 * Adds the update to a graph: reads weights and moments of the store and assigns them.
 * `label_count` [1] is an input: the labels whose losses were summed. Outputs `sum_of_squares` [1] (of the summed gradient), `loss_sum` [1]
 * and `counts.<layer>` [E+1].
 */
export function addUpdate(
  graph: Graph,
  config: ModelConfig,
  optimizer: RunOptions["optimizer"],
  { lossSum, gradients, counts }: Sums,
): void {
  const read = (name: string, shape: readonly number[]) => graph.read(name, tensor("float32", shape));
  const sumOfSquares = [...gradients.values()].map((gradient) => ops.sumOfSquares(gradient)).reduce((sum, next) => ops.add(sum, next));
  const labelCount = graph.input("label_count", tensor("float32", [1]));
  const scale = ops.clipScale(sumOfSquares, labelCount, { maxNorm: optimizer.clip });
  const hyper = (kind: string, length: number) => graph.input(`hyper.${kind}`, tensor("float32", [length]));

  for (const spec of parameters(config)) {
    const weight = read(spec.name, spec.shape);
    const [first, second] = stateNames(spec, optimizer).map((name) => ({ name, value: read(name, spec.shape) }));
    const { rule, decays } = ruleOf(spec, optimizer);
    if (!first) continue;
    if (rule === "muon") {
      const updated = ops.muon(weight, gradients.get(spec.name) as Value, first.value, scale, hyper("muon", 4));
      graph.assign(spec.name, updated.p);
      graph.assign(first.name, updated.momentum);
      continue;
    }
    if (!second) continue;
    const isBalance = rule === "balance";
    const updated = ops.adamw(
      weight,
      isBalance ? ops.balanceGrad(counts[spec.layer ?? 0] as Value) : (gradients.get(spec.name) as Value),
      first.value,
      second.value,
      isBalance ? ops.fill(labelCount, 1) : scale,
      hyper(isBalance ? "balance" : decays ? "decayed" : "plain", 6),
    );
    graph.assign(spec.name, updated.p);
    graph.assign(first.name, updated.m);
    graph.assign(second.name, updated.v);
  }
  graph.output("sum_of_squares", sumOfSquares);
  graph.output("loss_sum", lossSum);
  counts.forEach((value, layer) => {
    graph.output(countsName(layer), value);
  });
}
