import { readFile } from "node:fs/promises";
import { resolve } from "node:path";
import { presets } from "@zaya/model";
import { expect, test } from "vitest";
import type { EvaluateOptions } from "./evaluate.js";
import { completeOptions, LimitOptions, parseOptions, RunOptions, runOptionsOf, type TrainOptions } from "./options.js";

const good = { model: "zaya-tiny", data: ["corpus.txt"], out: "run", steps: 10 };

test("fills in what is not given", () => {
  expect(parseOptions(good)).toMatchObject({ context: 512, windows: 4, seed: 1, dtype: "bfloat16", optimizer: { name: "adamw", clip: 1 } });
});

test("has every option in the table of the README, with its default", async () => {
  const readme = await readFile(new URL("../README.md", import.meta.url), "utf8");
  const table = readme.split("## ").find((part) => part.startsWith("Options\n")) ?? "";
  const told = new Map([...table.matchAll(/^\| `([\w.]+)` +\| (.*?) +\|/gm)].map(([, name = "", value = ""]) => [name, value]));
  const { optimizer, ...values } = completeOptions(parseOptions(good), null);
  const inner = Object.entries(optimizer).map(([name, value]) => [`optimizer.${name}`, value] as const);
  const names = [...Object.keys(RunOptions.shape), ...Object.keys(LimitOptions.shape), "out", "resume", "threads", "signal"];
  expect([...told.keys()].sort()).toEqual([...names.filter((name) => name !== "optimizer"), ...inner.map(([name]) => name)].sort());
  const defaults = [...Object.entries(values), ...inner].filter(([name, value]) => typeof value === "number" && told.get(name) !== "");
  for (const [name, value] of defaults) if (name !== "warmup") expect(Number.parseFloat(told.get(name) ?? ""), name).toBe(value);
});

test("takes lists of names that may not be changed", () => {
  const files: readonly string[] = Object.freeze(["corpus.jsonl"]);
  const fields = ["question", "answer"] as const;
  const options: TrainOptions = { ...good, data: files, evaluationData: files, fields, heldOut: 0.5 };
  const { data: _data, ...evaluated }: EvaluateOptions = { checkpoint: "run/latest", data: files, fields };
  expect(parseOptions(options).fields).toEqual(evaluated.fields);
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
  [{ ...good, heldOut: 0.51 }, /^heldOut: expected a number up to 0.5, received 0.51$/],
])("refuses %j with one line", (options, message) => {
  expect(() => parseOptions(options)).toThrow(message);
  expect(() => parseOptions(options)).toThrow(expect.objectContaining({ code: "INVALID_OPTIONS" }));
});

test.each([
  [
    { tokenizer: "t", vocabSize: 300 },
    "vocabSize and tokenizer are both given, and no tokenizer is trained where that has one; choose one",
  ],
  [
    { model: undefined, from: "c", vocabSize: 4096 },
    "vocabSize and from are both given, and no tokenizer is trained where that has one; choose one",
  ],
  [{ fields: ["text"] }, "fields: only records have them, and no file is a .jsonl or .ndjson one; leave them out"],
  [{ data: ["/a.txt", "/b.json"] }, "/b.json: is JSON as a whole; write it to a .jsonl file, one record a line"],
  [{ evaluationData: ["b.txt"], heldOut: 0.1 }, "heldOut and evaluationData are both given; choose one"],
  [{ evaluationData: ["/b.JSON"] }, "/b.JSON: is JSON as a whole; write it to a .jsonl file, one record a line"],
  [{ warmup: 10 }, "warmup: 10 steps leave nothing of a run of 10; take fewer, or leave it out"],
])("refuses %j in a new run, and takes it as it is in one that goes on", (more, message) => {
  const options = parseOptions({ ...good, ...more });
  expect(() => completeOptions(options, null)).toThrow(expect.objectContaining({ code: "INVALID_OPTIONS", message }));
  const saved = { ...runOptionsOf(completeOptions(parseOptions(good), null)), vocabSize: 5, fields: ["a"], heldOut: 0.2, warmup: 90 };
  expect(completeOptions(options, saved)).toEqual({ vocabSize: 5, fields: ["a"], heldOut: 0.2, warmup: 90, ...options });
});

test.each([
  [1, 0],
  [2, 1],
  [9, 1],
  [41, 5],
  [200, 20],
  [9999, 20],
])("a run of %i steps warms up in %i of them", (steps, warmup) => {
  expect(completeOptions(parseOptions({ ...good, steps }), null)).toMatchObject({ warmup, vocabSize: 4096, fields: ["text"] });
});

test("holds out a share unless there are files to evaluate on", () => {
  const heldOut = (more: object) => completeOptions(parseOptions({ ...good, ...more }), null).heldOut;
  expect([{}, { heldOut: 0.2 }, { evaluationData: ["b.txt"] }, { evaluationData: ["b.txt"], heldOut: 0 }].map(heldOut)).toEqual([
    0.05, 0.2, 0, 0,
  ]);
});

test("takes a configuration as it is", () => {
  const model = { ...presets["dense-512"], vocabSize: 300 };
  expect(parseOptions({ ...good, model }).model).toEqual(model);
});
