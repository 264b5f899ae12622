import { openDevice } from "@zaya/kernels";
import { presets } from "@zaya/model";
import { expect, test } from "vitest";
import { writeFreshWeights } from "./fresh_weights.js";
import { expectRoom, planTraining } from "./memory.js";
import { allocateTrainingState } from "./optimizer.js";
import { parseOptions } from "./options.js";
import { compileStep } from "./step.js";

const config = presets["zaya-tiny"];
const base = parseOptions({ model: "zaya-tiny", data: ["none"], out: "none", steps: 1, context: 64, windows: 2 });

test.each([1, 2, 3])("plans what a step of %i microbatches takes", async (accumulation) => {
  const options = { ...base, accumulation };
  const planned = await planTraining(config, options);
  const withoutWorkspaces = await planTraining(config, options, false);
  await using device = await openDevice();
  const before = device.memory().currentBytes;
  await using store = device.createStore();
  allocateTrainingState(store, config, options);
  await writeFreshWeights(store, config, 1);
  await using step = compileStep(device, store, config, options);
  expect(device.memory().currentBytes - before).toBe(store.bytes() + step.arenaBytes);
  expect(planned).toEqual({ storeBytes: store.bytes(), arenaBytes: step.arenaBytes });
  expect(withoutWorkspaces.storeBytes).toBe(planned.storeBytes);
  expect(withoutWorkspaces.arenaBytes).toBeLessThan(planned.arenaBytes);
});

test("has room for a small step, and refuses one of a billion tokens with both figures", async () => {
  expectRoom("a step", await planTraining(config, base));
  const large = await planTraining(config, { ...base, context: 1e6, windows: 1e3 });
  const refused = () => expectRoom("a step", large);
  expect(refused).toThrow(/^a step takes [\d.]+ [TP]B of memory, .* and there are [\d.]+ GB/);
  expect(refused).toThrow(expect.objectContaining({ code: "INVALID_OPTIONS" }));
});
