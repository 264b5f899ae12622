import { expect, test } from "vitest";
import { libraryNames, libraryOptions, withFlags } from "./names.js";
import { createProgram, everyCommand } from "./program.js";

const commands = everyCommand(createProgram("0.0.0"));

function commandOf(name: string) {
  const command = commands.find((each) => each.name() === name);
  if (!command) throw new Error(`there is no command ${name}`);
  return command;
}

test("names options and arguments that there are", () => {
  const names = commands.flatMap(({ options, registeredArguments }) => [
    ...options.map((option) => option.attributeName()),
    ...registeredArguments.map((argument) => argument.name()),
  ]);
  for (const name of Object.keys(libraryNames)) expect(names).toContain(name);
});

test("gives the library what was given, by its names", () => {
  const { lr, beta1, optimizer, context, evalData } = { lr: 1e-3, beta1: 0, optimizer: "muon", context: 32, evalData: undefined };
  expect(libraryOptions({ lr, beta1, optimizer, context, evalData })).toEqual({
    learningRate: 1e-3,
    optimizer: { name: "muon", beta1: 0 },
    context: 32,
  });
});

test.each([
  [
    "train",
    "INVALID_OPTIONS",
    "learningRate: expected a number; seed: expected a number",
    "--lr: expected a number; --seed: expected a number",
  ],
  ["train", "INVALID_OPTIONS", "optimizer.name: expected adamw or muon", "--optimizer: expected adamw or muon"],
  ["train", "INVALID_OPTIONS", "vocabSize and from are both given, from that", "--vocab-size and --from are both given, from that"],
  ["train", "INVALID_OPTIONS", "say how long to train: steps or seconds", "say how long to train: --steps or --seconds"],
  ["train", "INVALID_OPTIONS", "warmup: 5 steps leave nothing of a run of 5", "--warmup: 5 steps leave nothing of a run of 5"],
  ["resume", "INVALID_OPTIONS", "seconds: a run is limited by steps", "--seconds: a run is limited by steps"],
  [
    "train",
    "INVALID_OPTIONS",
    "a step takes 2 GB; take less context, fewer windows",
    "a step takes 2 GB; take less context, fewer windows",
  ],
  ["estimate", "INVALID_OPTIONS", "model and from are both given", "<preset> and --from are both given"],
  ["init", "INVALID_OPTIONS", 'model: there is no preset "x"', '--preset: there is no preset "x"'],
  ["eval", "INVALID_DATA", "windows: no such file", "windows: no such file"],
  [
    "eval",
    "INVALID_DATA",
    "a.jsonl:1: the record has body; choose with the option fields",
    "a.jsonl:1: the record has body; choose with the option --fields",
  ],
  [
    "resume",
    "INVALID_DATA",
    "a.txt: no such file; name it with the option evaluationData",
    "a.txt: no such file; name it with the option --eval-data",
  ],
  [
    "train",
    "RUN_MISMATCH",
    "seed has other values of heldOut, seed, optimizer; resume",
    "seed has other values of --held-out, --seed, optimizer; resume",
  ],
])("%s tells of %s: %s", (name, code, message, told) => {
  expect(withFlags({ code, message }, commandOf(name))).toBe(told);
});
