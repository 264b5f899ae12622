import { createRequire } from "node:module";
import { expect, test } from "vitest";
import { adviceWithoutAddon, moduleUrl } from "./native.js";

test("finds packages from a module, and from a bundle that has no URL", () => {
  expect(moduleUrl("file:///somewhere/index.js")).toBe("file:///somewhere/index.js");
  for (const url of [undefined, "blob:nodedata:1"]) expect(createRequire(moduleUrl(url)).resolve("protobufjs")).toContain("protobufjs");
});

test("tells to install the addon where there is one, and elsewhere what works without", () => {
  const notFound = "a/zaya.node: Cannot find module 'a/zaya.node'";
  expect(adviceWithoutAddon("linux", "x64", true, [notFound])).toMatch(/^Run: npm install @zaya\/kernels-linux-x64-gnu \(/);
  for (const [platform, arch, glibc, what] of [
    ["darwin", "arm64", false, "darwin-arm64"],
    ["linux", "arm64", true, "linux-arm64"],
    ["linux", "x64", false, "linux-x64 without glibc (Alpine has musl in its place)"],
    ["win32", "x64", false, "win32-x64"],
  ] as const) {
    const advice = adviceWithoutAddon(platform, arch, glibc, [notFound]);
    expect(advice).toContain(`There is no addon for ${what}, only for x86-64 Linux with glibc.`);
    expect(advice).toContain('openDevice("null")');
    expect(advice).not.toContain("npm install");
  }
});

test.each([
  {
    reason: "/lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_2.34' not found (required by b/zaya.node)",
    advice: /^The addon needs glibc 2\.34 or newer/,
  },
  { reason: "b/zaya.node: file too short", advice: /^What is there is damaged or of another version\. Run: npm install .*@VERSION/ },
  { reason: "b/zaya.node: reads plans of version 3, this package writes 4", advice: /^What is there is damaged or of another version\./ },
])("tells what to do about an addon that is there and cannot be loaded: $reason", ({ reason, advice }) => {
  expect(adviceWithoutAddon("linux", "x64", true, ["a/zaya.node: Cannot find module 'a/zaya.node'", reason])).toMatch(advice);
});
