import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import fc from "fast-check";
import { expect, it } from "vitest";
import { openSafetensors } from "./safetensors.js";
import { safetensorsBytes, temporaryFolder } from "./testing.js";

it("opens a damaged file or refuses it with CHECKPOINT_INVALID, never anything else, and never reads past its end", async () => {
  await using dir = await temporaryFolder();
  const path = join(dir.path, "x.safetensors");
  const good = safetensorsBytes(
    {
      __metadata__: { format: "pt" },
      a: { dtype: "F32", shape: [2, 2], data_offsets: [0, 16] },
      "b.c": { dtype: "BF16", shape: [3], data_offsets: [16, 22] },
    },
    22,
  );
  const damage = fc.record({
    edits: fc.array(
      fc.record({ at: fc.nat(good.length - 1), value: fc.oneof(fc.nat(255), fc.constantFrom(0x22, 0x2c, 0x5d, 0x7d, 0x31, 0x2d)) }),
      { maxLength: 4 },
    ),
    length: fc.oneof({ weight: 3, arbitrary: fc.constant(good.length) }, fc.nat(good.length + 8)),
  });
  await fc.assert(
    fc.asyncProperty(damage, async ({ edits, length }) => {
      const bytes = new Uint8Array(length);
      bytes.set(good.subarray(0, length));
      for (const { at, value } of edits) if (at < length) bytes[at] = value;
      await writeFile(path, bytes);
      const file = await openSafetensors(path).catch((error: unknown) => error);
      if (file instanceof Error) {
        expect(file).toMatchObject({ name: "ZayaError", code: "CHECKPOINT_INVALID" });
        expect(file.message).not.toContain("\n");
        return;
      }
      const { tensors, read, close } = file as Awaited<ReturnType<typeof openSafetensors>>;
      for (const { name, offset, bytes: size } of tensors.values()) {
        expect(offset + size).toBeLessThanOrEqual(length);
        expect(await read(name)).toEqual(bytes.slice(offset, offset + size));
      }
      await close();
    }),
    { numRuns: 500, seed: 5 },
  );
});
