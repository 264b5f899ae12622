import { resolve } from "node:path";
import { presets } from "@zaya/model";
import { expect, test } from "vitest";
import { parseOptions } from "./options.js";

const good = { model: "zaya-tiny", data: ["corpus.txt"], out: "run", steps: 10 };

test("fills in what is not given", () => {
  expect(parseOptions(good)).toMatchObject({ context: 512, windows: 4, seed: 1, dtype: "bfloat16", optimizer: { name: "adamw", clip: 1 } });
});

test("keeps paths as absolute ones, from whatever folder a run goes on", () => {
  const { data, tokenizer, cache } = parseOptions({ ...good, tokenizer: "t", cache: "/c" });
  expect([data, tokenizer, cache]).toEqual([[resolve("corpus.txt")], resolve("t"), "/c"]);
});

test.each([
  [{ ...good, steps: undefined }, /how long to train/],
  [{ ...good, seconds: 5 }, /choose one/],
  [{ ...good, model: undefined }, /what to train/],
  [{ ...good, from: "dir" }, /choose one/],
  [{ ...good, data: [] }, /data: name at least one file/],
  [{ ...good, steps: 0 }, /^steps: /],
  [{ ...good, lerningRate: 1 }, /lerningRate/],
  [{ ...good, optimizer: { name: "sgd" } }, /^optimizer.name: /],
  [{ ...good, model: 5 }, /^model: /],
  [{ ...good, model: { kind: "none" } }, /^model\.kind: /],
  [{ ...good, model: { ...presets["zaya-tiny"], numExperts: 0 } }, /^model\.numExperts: /],
  [{ ...good, model: { ...presets["zaya-tiny"], layerTypes: ["full"] } }, /^model: 1 layer types are given for 2 layers/],
  [{ ...good, accumulation: Number.MAX_SAFE_INTEGER }, /^accumulation: /],
  [{ ...good, windows: 2 ** 20 + 1 }, /^windows: /],
  [{ ...good, context: 2 ** 20 + 1 }, /^context: /],
])("refuses %j with one line", (options, message) => {
  expect(() => parseOptions(options)).toThrow(message);
  expect(() => parseOptions(options)).toThrow(expect.objectContaining({ code: "INVALID_OPTIONS" }));
});

test("takes a configuration as it is", () => {
  const model = { ...presets["dense-512"], vocabSize: 300 };
  expect(parseOptions({ ...good, model }).model).toEqual(model);
});
