import { expect, test } from "vitest";
import { openDevice } from "./device.js";
import { createLimitMeter, describeMachine } from "./machine.js";

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
