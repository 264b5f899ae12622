import { createGraph } from "@zaya/kernels";
import { describe, expect, it } from "vitest";
import type { ModelConfig } from "./config.js";
import { describe as describeModel } from "./describe.js";
import { forward } from "./graph/forward.js";
import { generationGraph } from "./graph/generation.js";
import { raggedInputs } from "./graph/inputs.js";
import { initialise } from "./initialise.js";
import { parameters } from "./parameters.js";
import { presets } from "./presets.js";

const tiny = presets["zaya-tiny"];
const weights = { dtype: "float32", encoding: "plain" } as const;
const limits = { maxTokens: 1, maxSequences: 1, maxLogitRows: 1, numPages: 1, numSlots: 1, pagesPerSequence: 1 };

describe("an invalid configuration is refused", () => {
  it.each<[string, (config: ModelConfig) => unknown]>([
    ["parameters", parameters],
    ["initialise", (config) => [...initialise(config, 1)]],
    ["describe", describeModel],
    [
      "forward",
      (config) => {
        const graph = createGraph();
        forward(graph, config, raggedInputs(graph, 1, 1), { weights });
      },
    ],
    ["generationGraph", (config) => generationGraph(config, limits, { weights })],
  ])("by %s", (_, use) => {
    expect(() => use({ ...tiny, numLayers: 8 })).toThrow(
      expect.objectContaining({ code: "CONFIG_INVALID", message: "config: 2 layer types are given for 8 layers" }),
    );
  });

  it.each<[object | undefined, string]>([
    [{ ...tiny, headDim: 33 }, "config: headDim: must be a multiple of 2, received 33"],
    [{ ...tiny, numExperts: 0 }, "config: numExperts: Too small: expected number to be >=1, received 0"],
    [{ ...tiny, vocabSize: undefined }, "config: vocabSize is missing"],
    [{ ...tiny, numKeyValueHeads: 3 }, "config: the number of query heads (4) must be a multiple of the number of key/value heads (3)"],
    [{ ...presets["dense-512"], ffnSize: 0 }, "config: ffnSize: Too small: expected number to be >=1, received 0"],
    [{ ...tiny, name: "mine" }, 'config: Unrecognized key: "name"'],
    [undefined, "config: expected object"],
  ])("in one line (case %#)", (config, message) => {
    expect(() => parameters(config as ModelConfig)).toThrow(expect.objectContaining({ code: "CONFIG_INVALID", message }));
  });
});
