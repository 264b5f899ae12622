import { expect, test } from "vitest";
import { openDevice } from "./device.js";
import { type InstructionSetInfo, whyBest } from "./instruction_sets.js";
import { loadAddon } from "./native.js";

const instructions = { float32: "", bfloat16: "", int8: "" };
const sets: readonly InstructionSetInfo[] = [
  { name: "portable", built: true, missing: [], instructions },
  { name: "avx2", built: false, missing: [], instructions },
  { name: "avx512", built: true, missing: ["avx512bf16", "avx512vnni"], instructions },
];

test("says what a processor lacks for better kernels", () => {
  expect(whyBest(sets, "avx512")).toBe("the best of this processor");
  expect(whyBest(sets, "portable")).toBe(
    "the best of this processor; no avx512: it lacks avx512bf16, avx512vnni; no avx2: not in this build",
  );
});

test("a device takes the best that the processor has, and says who asked for another", async () => {
  const known = loadAddon().instructionSets();
  expect(known.map(({ name }) => name)).toEqual(["portable", "avx2", "avx512"]);
  const best = known.filter(({ built, missing }) => built && missing.length === 0).at(-1)?.name;
  await using asked = await openDevice("cpu", { isa: "portable", threads: 1 });
  expect(asked.isaReason).toBe("asked for by the program");
  await using device = await openDevice("cpu", { threads: 1 });
  if (process.env.ZAYA_ISA) expect(device.isaReason).toBe("asked for by ZAYA_ISA");
  else expect([device.isa, device.isaReason.startsWith("the best of this processor")]).toEqual([best, true]);
});
