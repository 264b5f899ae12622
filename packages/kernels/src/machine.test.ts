import { totalmem } from "node:os";
import { afterEach, expect, test, vi } from "vitest";
import { openDevice } from "./device.js";
import { createLimitMeter, describeMachine, memoryLimit, shareOfLimit } from "./machine.js";

afterEach(() => vi.restoreAllMocks());

test("a meter gives what it measures, and the medians of each limit", async () => {
  await using device = await openDevice("cpu", { threads: 1 });
  const meter = createLimitMeter(device);
  const seen = [await meter.measure("int8"), await meter.measure("int8"), await meter.measure("int8")].sort((a, b) => a - b);
  expect(meter.medians().int8).toBe(seen[1]);
  expect(meter.medians().read).toBeNaN();
});

test("tells the processor and what of it is used", async () => {
  await using device = await openDevice("cpu", { threads: 1, isa: "portable" });
  expect(describeMachine(device)).toMatchObject({ threads: 1, isa: "portable", node: process.version });
});

test.each([
  ["no limit", 0, totalmem()],
  ["a limit beyond the machine", 2 ** 63, totalmem()],
  ["a limit", 1e8, 1e8],
])("the memory of a process whose control group has %s", (_what, limit, expected) => {
  vi.spyOn(process, "constrainedMemory").mockReturnValue(limit);
  expect(memoryLimit()).toBe(expected);
});

test("the share of a limit leaves out slices during which the machine changed its speed", () => {
  const steady = { seconds: 1, work: 15, before: 28, after: 30 };
  const changed = { seconds: 1, work: 15, before: 30, after: 60 };
  expect(shareOfLimit([steady])).toBeCloseTo(0.5, 12);
  expect(shareOfLimit([steady, changed])).toBeCloseTo(0.5, 12);
  expect(shareOfLimit([changed])).toBeCloseTo(0.25, 12);
  expect(shareOfLimit([steady, { ...steady, seconds: 3 }])).toBeCloseTo(0.25, 12);
});
