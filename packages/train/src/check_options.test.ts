import { presets } from "@zaya/model";
import { expect, test } from "vitest";
import { z } from "zod";
import { checkOptions } from "./check_options.js";
import { parseOptions } from "./options.js";

const good = { model: "zaya-tiny", data: ["corpus.txt"], out: "run", steps: 10 };

test.each([
  [{ heldOut: 1 }, "heldOut: expected a number up to 0.5, received 1"],
  [{ heldOut: -0.5 }, "heldOut: expected a number from 0 on, received -0.5"],
  [{ finalLearningRate: 2 }, "finalLearningRate: expected a number up to 1, received 2"],
  [{ learningRate: 0 }, "learningRate: expected a number above 0, received 0"],
  [{ learningRate: Number.NaN }, "learningRate: expected a number, received NaN"],
  [{ learningRate: "1e-3" }, 'learningRate: expected a number, received "1e-3"'],
  [{ steps: 1.5 }, "steps: expected a whole number, received 1.5"],
  [{ seed: 2 ** 53 }, "seed: expected a number up to 9007199254740991, received 9007199254740992"],
  [{ out: "" }, "out: name a folder"],
  [{ out: undefined }, "out: expected a text, received nothing"],
  [{ data: "a.txt" }, 'data: expected a list, received "a.txt"'],
  [{ fields: [] }, "fields: name at least one key"],
  [{ resume: "yes" }, 'resume: expected true or false, received "yes"'],
  [{ signal: {} }, "signal: expected AbortSignal, received {}"],
  [{ dtype: "int8" }, 'dtype: expected float32 or bfloat16, received "int8"'],
  [{ optimizer: { beta1: 1, beta3: 0 } }, "optimizer.beta1: expected a number below 1, received 1; optimizer: there is no option beta3"],
  [{ model: 5 }, "model: expected an object, received 5"],
  [{ model: { kind: "none" } }, "model.kind: expected zaya or dense"],
  [{ model: { ...presets["zaya-tiny"], numExperts: 0 } }, "model.numExperts: expected a number from 1 on, received 0"],
])("refuses %j in the words of this package", (more, message) => {
  expect(() => parseOptions({ ...good, ...more })).toThrow(expect.objectContaining({ code: "INVALID_OPTIONS", message }));
});

test("gives what is parsed, or tells the problem to who asked", () => {
  const schema = z.object({ steps: z.int().default(3) });
  expect(checkOptions(schema, {})).toEqual({ steps: 3 });
  const refuse = (problems: string): never => {
    throw new Error(`no run: ${problems}`);
  };
  expect(() => checkOptions(schema, { steps: 1.5 }, refuse)).toThrow("no run: steps: expected a whole number, received 1.5");
});
