import { type Graph, ops, type Value } from "@zaya/kernels";
import type { ModelConfig, ZayaConfig } from "../config.js";
import { cca, ccaForm } from "./cca.js";
import { denseForward } from "./dense.js";
import { experts, expertsForm, type Routing } from "./experts.js";
import type { RaggedInputs } from "./inputs.js";
import { type WeightStorage, weightReader } from "./weights.js";

/** What the matrix products round their operands to; they always accumulate in float32. */
export type Compute = "float32" | "bfloat16";

export interface ForwardOptions {
  readonly weights: WeightStorage;
  /** Default: bfloat16 where the weights are, else float32. */
  readonly compute?: Compute | undefined;
}

/** The model up to its head. */
export interface Forward {
  /** [T,D], after the final norm: what the head multiplies. */
  readonly hidden: Value;
  /** One entry a layer: the residual stream after it [T,D], and where its tokens went (none in a dense model). */
  readonly layers: readonly { readonly hidden: Value; readonly routing: Routing | null }[];
  /** [V,D] */
  readonly head: Value;
  /** [V] */
  readonly headBias: Value | null;
  readonly compute: Compute;
}

/**
 * Adds the forward pass of a model to a graph, for training and generation alike. Parameters are read from the store under their
 * names in a checkpoint; the residual stream is float32 throughout.
 *
 * @throws CONFIG_INVALID
 */
export function forward(graph: Graph, config: ModelConfig, inputs: RaggedInputs, { weights, compute }: ForwardOptions): Forward {
  const mode = compute ?? (weights.dtype === "bfloat16" ? "bfloat16" : "float32");
  const weight = weightReader(graph, config, weights);
  const body = config.kind === "zaya" ? zayaForward : denseForward;
  return {
    ...body(graph, config as never, inputs, weight, mode),
    head: weight(config.tieWordEmbeddings ? "model.embed_tokens.weight" : "lm_head.weight"),
    headBias: config.kind === "zaya" && config.lmHeadBias ? weight("lm_head.bias") : null,
    compute: mode,
  };
}

function zayaForward(
  graph: Graph,
  config: ZayaConfig,
  inputs: RaggedInputs,
  weight: (name: string) => Value,
  compute: Compute,
): Pick<Forward, "hidden" | "layers"> {
  const eps = config.rmsNormEps;
  const normWeight = (layer: number) =>
    weight(layer < config.numLayers ? `model.layers.${layer}.input_layernorm.weight` : "model.norm.weight");
  const formOf = (layer: number) => (layer < config.numLayers ? ccaForm(layer, weight) : "float32");
  const merge = (y: Value, h: Value, name: string, norm: Value, form: ops.RowForm) =>
    ops.residualRmsNorm(y, h, norm, {
      yScale: weight(`${name}.hidden_states_scale`),
      yBias: weight(`${name}.hidden_states_bias`),
      hScale: weight(`${name}.residual_scale`),
      hBias: weight(`${name}.residual_bias`),
      eps,
      form,
    });

  const embedded_TD = ops.embedding(weight("model.embed_tokens.weight"), inputs.ids);
  let { h: h_TD, normed: x_TD } = ops.residualRmsNorm(embedded_TD, null, normWeight(0), {
    yScale: weight("model.input_hidden_states_scale"),
    yBias: weight("model.input_hidden_states_bias"),
    eps,
    form: formOf(0),
  });
  let router_TR: Value | null = null;
  const layers: { hidden: Value; routing: Routing }[] = [];
  for (let layer = 0; layer < config.numLayers; layer++) {
    const block = `model.layers.${layer}`;
    const a_TD = cca(graph, config, layer, x_TD, weight, inputs, compute);
    const middle = merge(
      a_TD,
      h_TD,
      `${block}.post_attention_residual_scale`,
      weight(`${block}.post_attention_layernorm.weight`),
      expertsForm(layer, weight),
    );
    const { y, r, routing } = experts(config, layer, middle, router_TR, weight, compute, inputs.cache !== undefined);
    router_TR = r;
    ({ h: h_TD, normed: x_TD } = merge(y, middle.h, `${block}.post_mlp_residual_scale`, normWeight(layer + 1), formOf(layer + 1)));
    layers.push({ hidden: h_TD, routing });
  }
  return { hidden: x_TD, layers };
}
