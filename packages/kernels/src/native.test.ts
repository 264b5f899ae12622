import { createRequire } from "node:module";
import { expect, test } from "vitest";
import { moduleUrl } from "./native.js";

test("finds packages from a module, and from a bundle that has no URL", () => {
  expect(moduleUrl("file:///somewhere/index.js")).toBe("file:///somewhere/index.js");
  for (const url of [undefined, "blob:nodedata:1"]) expect(createRequire(moduleUrl(url)).resolve("protobufjs")).toContain("protobufjs");
});
