import { describe, expect, it } from "vitest";
import { initialise } from "./initialise.js";
import { elements, parameters } from "./parameters.js";
import { presets } from "./presets.js";
import { miniature } from "./testing.js";

const config = presets["zaya-tiny"];

function moments(data: Float32Array): { mean: number; deviation: number } {
  const mean = data.reduce((sum, x) => sum + x, 0) / data.length;
  return { mean, deviation: Math.sqrt(data.reduce((sum, x) => sum + (x - mean) ** 2, 0) / data.length) };
}

describe("initialise", () => {
  const tensors = new Map([...initialise(config, 1)].map(({ name, data }) => [name, data]));

  it("gives every parameter once with as many values as its shape has", () => {
    expect([...tensors.keys()]).toEqual(parameters(config).map(({ name }) => name));
    for (const spec of parameters(config)) expect(tensors.get(spec.name)?.length, spec.name).toBe(elements(spec));
  });

  it("draws matrices from a normal distribution of the deviation that the parameter asks for", () => {
    for (const spec of parameters(config)) {
      if (spec.init.type !== "normal") continue;
      const data = tensors.get(spec.name) as Float32Array;
      const { mean, deviation } = moments(data);
      const { std } = spec.init;
      expect(Math.abs(mean), spec.name).toBeLessThan((5 * std) / Math.sqrt(data.length));
      expect(Math.abs(deviation - std), spec.name).toBeLessThan((5 * std) / Math.sqrt(2 * data.length));
    }
  });

  it("lets convolutions pass the current column almost unchanged", () => {
    const depthwise = tensors.get("model.layers.0.self_attn.qkv_proj.conv_qk_depthwise.weight") as Float32Array;
    const grouped = tensors.get("model.layers.0.self_attn.qkv_proj.conv_qk_grouped.weight") as Float32Array;
    const H = config.headDim;
    for (let channel = 0; channel < depthwise.length / 2; channel++) {
      expect(Math.abs((depthwise[2 * channel] as number) - 0)).toBeLessThan(0.12);
      expect(Math.abs((depthwise[2 * channel + 1] as number) - 1)).toBeLessThan(0.12);
      for (let input = 0; input < H; input++) {
        const current = grouped[(channel * H + input) * 2 + 1] as number;
        expect(Math.abs(current - (input === channel % H ? 1 : 0))).toBeLessThan(0.12);
      }
    }
  });

  it("starts balancing biases at 0 and the skip class at −1", () => {
    expect([...(tensors.get("model.layers.0.mlp.gate.balancing_biases") ?? [])]).toEqual([0, 0, 0, 0, -1]);
  });

  it("depends on the seed and the name, not on the other parameters", () => {
    const again = new Map([...initialise(config, 1)].map(({ name, data }) => [name, data]));
    expect(again.get("model.layers.1.mlp.experts.down_proj")).toEqual(tensors.get("model.layers.1.mlp.experts.down_proj"));
    const deeper = new Map(
      [...initialise({ ...config, numLayers: 3, layerTypes: ["full", "full", "full"] }, 1)].map(({ name, data }) => [name, data]),
    );
    expect(deeper.get("model.layers.1.mlp.experts.down_proj")).toEqual(tensors.get("model.layers.1.mlp.experts.down_proj"));
    const other = new Map([...initialise(config, 2)].map(({ name, data }) => [name, data]));
    expect(other.get("model.embed_tokens.weight")).not.toEqual(tensors.get("model.embed_tokens.weight"));
    expect(tensors.get("model.layers.0.mlp.experts.down_proj")).not.toEqual(tensors.get("model.layers.1.mlp.experts.down_proj"));
  });

  it("refuses a seed that is no whole number", () => {
    for (const [seed, received] of [
      [Number.NaN, "NaN"],
      [undefined, "undefined"],
      [1.5, "1.5"],
      [-1, "-1"],
      ["1", '"1"'],
    ] as const)
      expect(() => initialise(config, seed as number)).toThrow(
        expect.objectContaining({ code: "INVALID_ARGUMENT", message: `seed must be a whole number ≥ 0, received ${received}` }),
      );
  });

  it("keeps giving the values that were recorded", () => {
    // Recorded by this test: npx vitest run -u packages/model/src/initialise.test.ts
    const head = [...initialise(miniature, 7)].find(({ name }) => name === "lm_head.weight")?.data.slice(0, 5);
    expect([...(head ?? [])]).toMatchInlineSnapshot(`
      [
        -0.018117552623152733,
        0.008616171777248383,
        -0.01250117551535368,
        -0.013294183649122715,
        -0.029459461569786072,
      ]
    `);
  });
});
