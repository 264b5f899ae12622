import { expect, it } from "vitest";
import { ModelConfig } from "./config.js";
import { describe } from "./describe.js";
import { presets } from "./presets.js";

function isFrozen(value: unknown): boolean {
  return typeof value !== "object" || value === null || (Object.isFrozen(value) && Object.values(value).every(isFrozen));
}

it.each(Object.entries(presets))("%s is a model's configuration that nobody can change", (_, config) => {
  expect(ModelConfig.parse(config)).toEqual(config);
  expect(isFrozen(config)).toBe(true);
});

it("are spread into configurations that may be read-only too", () => {
  const layerTypes = Object.freeze(["full", "sliding", "full"] as const);
  const config = Object.freeze({ ...presets["zaya-tiny"], numLayers: 3, layerTypes, slidingWindow: 64 });
  expect(describe(config).parameters.total).toBeGreaterThan(describe(presets["zaya-tiny"]).parameters.total);
});

it("turns full and sliding layers by angles of their own", () => {
  const { full, sliding } = presets["zaya-tiny"].rope;
  expect(full).toEqual(sliding);
  expect(full).not.toBe(sliding);
});
