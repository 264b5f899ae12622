import { type Graph, ops, type Value } from "@zaya/kernels";
import type { DenseConfig } from "../config.js";
import { cachedAttention } from "./cached_attention.js";
import type { Compute, Forward } from "./forward.js";
import type { RaggedInputs } from "./inputs.js";

/** The dense twin: ordinary grouped-query attention and one SwiGLU a block, pre-norm, plain residual adds. */
export function denseForward(
  graph: Graph,
  config: DenseConfig,
  inputs: RaggedInputs,
  weight: (name: string) => Value,
  compute: Compute,
): Pick<Forward, "hidden" | "layers"> {
  const { numQueryHeads: N, numKeyValueHeads: K, headDim: H, rmsNormEps: eps } = config;
  const { theta, rotaryDim } = config.rope;
  let h_TD = ops.embedding(weight("model.embed_tokens.weight"), inputs.ids);
  let x_TD = ops.rmsNorm(h_TD, weight("model.layers.0.input_layernorm.weight"), { eps });
  const layers: { hidden: Value; routing: null }[] = [];
  for (let layer = 0; layer < config.numLayers; layer++) {
    const block = `model.layers.${layer}`;
    const heads = (name: string, count: number) =>
      ops.reshape(ops.linear(x_TD, weight(`${block}.self_attn.${name}.weight`), { compute }), [inputs.T, count, H]);
    const rotate = (value: Value) => ops.rope(value, inputs.positions, { rotary: rotaryDim, theta });
    const qkv = { q: rotate(heads("q_proj", N)), k: rotate(heads("k_proj", K)), v: heads("v_proj", K) };
    const o_TNH = cachedAttention(graph, config, layer, qkv, inputs, { scale: 1 / Math.sqrt(H), window: 0 }, compute);
    const a_TD = ops.linear(ops.reshape(o_TNH, [inputs.T, N * H]), weight(`${block}.self_attn.o_proj.weight`), { compute });
    const middle = ops.residualRmsNorm(a_TD, h_TD, weight(`${block}.post_attention_layernorm.weight`), { eps });

    const project = (name: string) => ops.linear(middle.normed, weight(`${block}.mlp.${name}.weight`), { compute });
    const inner_TF = ops.swiglu(ops.concat(project("gate_proj"), project("up_proj")));
    const y_TD = ops.linear(inner_TF, weight(`${block}.mlp.down_proj.weight`), { compute });
    const next = layer + 1 < config.numLayers ? `model.layers.${layer + 1}.input_layernorm.weight` : "model.norm.weight";
    ({ h: h_TD, normed: x_TD } = ops.residualRmsNorm(y_TD, middle.h, weight(next), { eps }));
    layers.push({ hidden: h_TD, routing: null });
  }
  return { hidden: x_TD, layers };
}
