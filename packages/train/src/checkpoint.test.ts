import { cp, mkdtemp, readdir, readFile, readlink, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openDevice } from "@zaya/kernels";
import { presets } from "@zaya/model";
import { makeFolder } from "@zaya/model/internal";
import { expect, test } from "vitest";
import { expectCheckpointRoom, findLatest, keepCheckpoints, saveRun } from "./checkpoint.js";
import { writeFreshWeights } from "./fresh_weights.js";
import { allocateTrainingState } from "./optimizer.js";
import { RunOptions } from "./options.js";

test("a save that fails leaves nothing", async () => {
  const out = await mkdtemp(join(tmpdir(), "checkpoint-"));
  await using device = await openDevice("null");
  await using store = device.createStore();
  const { optimizer } = RunOptions.parse({ data: ["corpus.txt"] });
  const state = { step: 1, tokens: 0, seed: 1, data: "" };
  const saving = saveRun(out, state, { store, config: presets["zaya-tiny"], optimizer, graphs: {} }, {}, { keep: 1, losses: new Map() });
  await expect(saving).rejects.toMatchObject({ code: "MISSING_TENSOR" });
  expect(await readdir(join(out, "checkpoints"))).toEqual([]);
});

async function copiedRun() {
  const out = await mkdtemp(join(tmpdir(), "checkpoint-"));
  const folders = [1, 2].map((step) => join(out, "checkpoints", `step-0000000${step}`));
  for (const [i, folder] of folders.entries()) {
    await makeFolder(folder);
    const manifest = { formatVersion: 1, step: i + 1, tokens: 9, seed: 1, data: "", files: {}, tensors: [] };
    await writeFile(join(folder, "manifest.json"), JSON.stringify(manifest));
  }
  return { out, folders, latest: join(out, "latest") };
}

test.each([1, 2])("goes on with a copied run, whose link has become the folder of step %i", async (step) => {
  const { out, folders, latest } = await copiedRun();
  await cp(folders[step - 1] as string, latest, { recursive: true });
  await cp(folders[0] as string, `${latest}.partial`, { recursive: true }); // of a run that was killed
  expect((await findLatest(out))?.state.step).toBe(2);
  expect(await readlink(latest)).toBe("checkpoints/step-00000002");
  expect((await readdir(out)).sort()).toEqual(["checkpoints", "latest"]);
});

test("leaves a folder in place of the link that is no copy of a checkpoint", async () => {
  const { out, latest } = await copiedRun();
  await makeFolder(latest);
  await writeFile(join(latest, "manifest.json"), "of something else");
  await expect(findLatest(out)).rejects.toMatchObject({
    code: "CHECKPOINT_DAMAGED",
    message: expect.stringContaining(`${latest} is a folder where a link is to be`),
  });
  expect(await readdir(latest)).toEqual(["manifest.json"]);
});

test("does not begin again where the checkpoints are away and the link to the newest is there", async () => {
  const { out, latest } = await copiedRun();
  const checkpoints = join(out, "checkpoints");
  await symlink("checkpoints/step-00000002", latest);
  const refused = {
    code: "CHECKPOINT_DAMAGED",
    message: `${latest} points to checkpoints/step-00000002, and there is no checkpoint in ${checkpoints}; mount or restore it, or remove ${latest} to begin again at step 1`,
  };
  await rm(checkpoints, { recursive: true });
  await expect(findLatest(out)).rejects.toMatchObject(refused);
  await makeFolder(checkpoints);
  await expect(findLatest(out)).rejects.toMatchObject(refused);
  await rm(latest);
  expect(await findLatest(out)).toBeNull();
});

test("does not take checkpoints that cannot be read for none", async () => {
  const out = await mkdtemp(join(tmpdir(), "checkpoint-"));
  await writeFile(join(out, "checkpoints"), "");
  await expect(findLatest(out)).rejects.toMatchObject({ code: "ENOTDIR" });
});

/** A run with one checkpoint, of step 4. */
async function smallRun(): Promise<string> {
  const out = await mkdtemp(join(tmpdir(), "checkpoint-"));
  const config = presets["zaya-tiny"];
  await using device = await openDevice();
  await using store = device.createStore();
  const options = RunOptions.parse({ data: ["corpus.txt"] });
  allocateTrainingState(store, config, options);
  await writeFreshWeights(store, config, 1);
  await saveRun(
    out,
    { step: 4, tokens: 9, seed: 1, data: "abc" },
    { store, config, optimizer: options.optimizer, graphs: {} },
    {},
    { keep: 1, losses: new Map() },
  );
  return out;
}

test.each([
  ["another step", (text: string) => text.replace('"step": 4', '"step": 3')],
  ["other data", (text: string) => text.replace(/"data": "./, '"data": "x')],
  ["another place of a tensor", (text: string) => text.replace(/"offset": (\d)/, '"offset": 9$1')],
  ["nothing in it", () => "null"],
])("refuses a manifest that tells of %s", async (_, change) => {
  const out = await smallRun();
  const path = join(out, "latest", "manifest.json");
  const text = await readFile(path, "utf8");
  expect(change(text)).not.toBe(text);
  await writeFile(path, change(text));
  await expect(findLatest(out)).rejects.toMatchObject({ code: "CHECKPOINT_DAMAGED", message: expect.stringContaining("manifest.json") });
});

test("refuses checkpoints for which the disk has no room, with what they take", async () => {
  const out = await mkdtemp(join(tmpdir(), "checkpoint-"));
  const { optimizer } = RunOptions.parse({ data: ["corpus.txt"] });
  const tiny = { config: presets["zaya-tiny"], optimizer };
  await expectCheckpointRoom(out, tiny, 3, 2);
  await expectCheckpointRoom(out, tiny, 0, 2);
  const huge = { config: { ...presets["zaya-tiny"], vocabSize: 2 ** 24, hiddenSize: 2 ** 24 }, optimizer };
  await expectCheckpointRoom(out, huge, 0, 2);
  for (const [more, keep, what] of [
    [1, 2, /^a checkpoint needs .* PB more/],
    [Number.POSITIVE_INFINITY, 2, /^holding 3 checkpoints at a time needs/],
  ] as const)
    await expect(expectCheckpointRoom(out, huge, more, keep)).rejects.toMatchObject({
      code: "DISK_FULL",
      message: expect.stringMatching(what),
    });
});

test("keeps the newest checkpoints and the one with the lowest held-out loss", async () => {
  const out = await mkdtemp(join(tmpdir(), "checkpoint-"));
  const checkpoints = join(out, "checkpoints");
  for (const step of [1, 2, 3, 4, 5]) await makeFolder(join(checkpoints, `step-0000000${step}`));
  await keepCheckpoints(out, { keep: 2, losses: new Map() });
  expect((await readdir(out)).sort()).toEqual(["checkpoints"]);
  expect((await readdir(checkpoints)).sort()).toEqual(["step-00000004", "step-00000005"]);
  for (const step of [6, 7]) await makeFolder(join(checkpoints, `step-0000000${step}`));
  await keepCheckpoints(out, {
    keep: 1,
    losses: new Map([
      [3, 0.1],
      [4, 1.5],
      [5, 1.5],
      [6, 1.7],
    ]),
  });
  expect(await readlink(join(out, "best"))).toBe("checkpoints/step-00000004");
  expect((await readdir(checkpoints)).sort()).toEqual(["step-00000004", "step-00000007"]);
});

test("points at the best also where a copied run has a folder there, and at none where none was evaluated", async () => {
  const { out, folders } = await copiedRun();
  const best = join(out, "best");
  await cp(folders[0] as string, best, { recursive: true });
  await keepCheckpoints(out, { keep: 1, losses: new Map([[1, 0.5]]) });
  expect(await readlink(best)).toBe("checkpoints/step-00000001");
  await rm(folders[0] as string, { recursive: true });
  await keepCheckpoints(out, { keep: 1, losses: new Map([[1, 0.5]]) });
  expect((await readdir(out)).sort()).toEqual(["checkpoints"]);
});
