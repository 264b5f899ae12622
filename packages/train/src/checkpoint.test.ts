import { mkdtemp, readdir } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openDevice } from "@zaya/kernels";
import { presets } from "@zaya/model";
import { expect, test } from "vitest";
import { saveRun } from "./checkpoint.js";
import { RunOptions } from "./options.js";

test("a save that fails leaves nothing", async () => {
  const out = await mkdtemp(join(tmpdir(), "checkpoint-"));
  await using device = await openDevice("null");
  await using store = device.createStore();
  const { optimizer } = RunOptions.parse({ data: ["corpus.txt"] });
  const state = { step: 1, tokens: 0, seed: 1, data: "" };
  const saving = saveRun(out, state, { store, config: presets["zaya-tiny"], optimizer, graphs: {} }, {}, 1);
  await expect(saving).rejects.toMatchObject({ code: "MISSING_TENSOR" });
  expect(await readdir(join(out, "checkpoints"))).toEqual([]);
});
