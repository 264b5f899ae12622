import { createRequire } from "node:module";
import { expect, test } from "vitest";
import { adviceWithoutAddon, moduleUrl } from "./native.js";

test("finds packages from a module, and from a bundle that has no URL", () => {
  expect(moduleUrl("file:///somewhere/index.js")).toBe("file:///somewhere/index.js");
  for (const url of [undefined, "blob:nodedata:1"]) expect(createRequire(moduleUrl(url)).resolve("protobufjs")).toContain("protobufjs");
});

test("tells to install the addon where there is one, and elsewhere what works without", () => {
  expect(adviceWithoutAddon("linux", "x64", true)).toMatch(/^Run: npm install @zaya\/kernels-linux-x64-gnu /);
  for (const [platform, arch, glibc, what] of [
    ["darwin", "arm64", false, "darwin-arm64"],
    ["linux", "arm64", true, "linux-arm64"],
    ["linux", "x64", false, "linux-x64 without glibc (Alpine has musl in its place)"],
    ["win32", "x64", false, "win32-x64"],
  ] as const) {
    const advice = adviceWithoutAddon(platform, arch, glibc);
    expect(advice).toContain(`There is no addon for ${what}, only for x86-64 Linux with glibc.`);
    expect(advice).toContain('openDevice("null")');
    expect(advice).not.toContain("npm install");
  }
});
