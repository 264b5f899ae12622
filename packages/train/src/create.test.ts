import { mkdtemp, readdir } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { presets } from "@zaya/model";
import { expect, test } from "vitest";
import { createCheckpoint } from "./create.js";

test("refuses a configuration that no checkpoint can have, and writes nothing", async () => {
  const out = await mkdtemp(join(tmpdir(), "create-"));
  const creating = createCheckpoint({ model: { ...presets["zaya-tiny"], numExperts: 0 }, out });
  await expect(creating.next()).rejects.toMatchObject({
    code: "INVALID_OPTIONS",
    message: expect.stringMatching(/^model\.numExperts: /),
  });
  expect(await readdir(out)).toEqual([]);
});
