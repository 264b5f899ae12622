import { readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { type ConvertEvent, convertCheckpoint, estimateConversion } from "./convert.js";
import { initialise } from "./initialise.js";
import { originalLayout } from "./original_layout.js";
import { parameters } from "./parameters.js";
import { presets } from "./presets.js";
import { quantiseCheckpoint } from "./quantise/quantise.js";
import { saveCheckpoint } from "./save.js";
import { miniature, originalConfigJson, temporaryFolder, writeOriginalCheckpoint } from "./testing.js";

async function collect(events: AsyncIterable<ConvertEvent>): Promise<ConvertEvent[]> {
  const all: ConvertEvent[] = [];
  for await (const event of events) all.push(event);
  return all;
}

describe("convertCheckpoint", () => {
  it("turns the original layout into what saving the same model gives, byte for byte", async () => {
    await using dir = await temporaryFolder();
    const [from, to, saved] = ["from", "to", "saved"].map((name) => join(dir.path, name)) as [string, string, string];
    await writeOriginalCheckpoint(from, miniature, 5, { shardBytes: 4000 });
    await writeFile(join(from, "chat_template.jinja"), "{{ messages }}");
    const events = await collect(convertCheckpoint({ from, to }));
    await saveCheckpoint(saved, {
      config: miniature,
      tensors: initialise(miniature, 5),
      tokenizerFiles: { "chat_template.jinja": "{{ messages }}" },
    });
    expect((await readdir(to)).sort()).toEqual(["chat_template.jinja", "config.json", "model.safetensors"]);
    for (const file of await readdir(to))
      expect(Buffer.compare(await readFile(join(to, file)), await readFile(join(saved, file))), file).toBe(0);

    expect(events[0]).toMatchObject({
      type: "convert-start",
      estimate: { layout: "original", exact: true, problems: [], missingFiles: [] },
    });
    const tensors = events.filter((event) => event.type === "tensor-end");
    expect(tensors.length).toBe(parameters(miniature).length);
    expect(tensors.at(-1)).toMatchObject({ name: "lm_head.bias", doneBytes: tensors.at(-1)?.totalBytes });
    expect(events.at(-1)).toMatchObject({
      type: "convert-end",
      dir: to,
      files: ["model.safetensors"],
      bytes: (await readFile(join(to, "model.safetensors"))).length,
      dryRun: false,
    });
  });

  it("says in a dry run what it would write, from the index alone, and writes nothing", async () => {
    await using dir = await temporaryFolder();
    const [from, to] = [join(dir.path, "from"), join(dir.path, "to")];
    await writeOriginalCheckpoint(from, miniature, 5, { shardBytes: 20_000 });
    const known = await estimateConversion(from);
    const shards = (await readdir(from)).filter((name) => name.endsWith(".safetensors")).sort();
    for (const name of shards) await rm(join(from, name));
    const config = JSON.parse(await readFile(join(from, "config.json"), "utf8")) as object;
    await writeFile(join(from, "config.json"), JSON.stringify({ ...config, torch_dtype: "float32" }));
    const events = await collect(convertCheckpoint({ from, to, dryRun: true }));
    expect(events[0]).toEqual({ type: "convert-start", estimate: { ...known, exact: false, missingFiles: shards } });
    expect(events[1]).toMatchObject({ type: "convert-end", bytes: known.bytes, dryRun: true });
    await saveCheckpoint(to, { config: miniature, tensors: initialise(miniature, 1) });
    await expect(collect(convertCheckpoint({ from, to, dryRun: true }))).rejects.toMatchObject({ code: "CHECKPOINT_EXISTS" });
    await rm(to, { recursive: true });
    await expect(readdir(to)).rejects.toThrow("ENOENT");
    await expect(collect(convertCheckpoint({ from, to }))).rejects.toMatchObject({
      code: "CHECKPOINT_INVALID",
      message: expect.stringContaining(`${shards[0]} is not there (and ${shards.length - 1} more problems)`),
    });
  });

  it("lists every missing and unknown tensor of an index", async () => {
    await using dir = await temporaryFolder();
    await writeOriginalCheckpoint(dir.path, miniature, 5, { shardBytes: 20_000 });
    const path = join(dir.path, "model.safetensors.index.json");
    const index = JSON.parse(await readFile(path, "utf8")) as { weight_map: Record<string, string> };
    for (const file of new Set(Object.values(index.weight_map))) await rm(join(dir.path, file));
    delete index.weight_map["model.layers.1.zaya_block.experts.local_experts.0.linear_fc2.weight"];
    index.weight_map["model.layers.1.zaya_block.experts.local_experts.3.linear_fc2.weight"] = "model-00001-of-00002.safetensors";
    await writeFile(path, JSON.stringify(index));
    expect((await estimateConversion(dir.path)).problems).toEqual([
      "missing tensor model.layers.1.zaya_block.experts.local_experts.0.linear_fc2.weight",
      "unknown tensor model.layers.1.zaya_block.experts.local_experts.3.linear_fc2.weight: the configured model has no such parameter",
    ]);
  });

  it("estimates the conversion of ZAYA1-8B from config.json and the index", async () => {
    await using dir = await temporaryFolder();
    const config = presets["zaya1-8b"];
    const names = [...originalLayout(config).values()].flatMap((source) => source.names);
    const weight_map = Object.fromEntries(
      names.map((name, i) => [name, `model-0000${1 + Math.floor((4 * i) / names.length)}-of-00004.safetensors`]),
    );
    await writeFile(
      join(dir.path, "model.safetensors.index.json"),
      JSON.stringify({ metadata: { total_size: 17_680_981_648 }, weight_map }),
    );
    await writeFile(join(dir.path, "config.json"), JSON.stringify({ ...originalConfigJson(config), torch_dtype: "bfloat16" }));
    const estimate = await estimateConversion(dir.path);
    expect(estimate).toMatchObject({ layout: "original", config, tensors: { before: 2483, after: 1283 }, exact: false, problems: [] });
    expect(estimate.missingFiles.length).toBe(4);
    const headers = estimate.bytes - (2 * 8_840_489_464 + 2 * 40 * 17);
    expect(headers).toBeGreaterThan(100_000);
    expect(headers).toBeLessThan(400_000);
  });

  it("leaves no checkpoint behind when it is aborted or left", async () => {
    await using dir = await temporaryFolder();
    const [from, to] = [join(dir.path, "from"), join(dir.path, "to")];
    await writeOriginalCheckpoint(from, miniature, 5);
    for await (const event of convertCheckpoint({ from, to })) if (event.type === "tensor-end") break;
    expect(await readdir(to)).toEqual([]);
    const controller = new AbortController();
    const aborted = (async () => {
      for await (const event of convertCheckpoint({ from, to, signal: controller.signal }))
        if (event.type === "tensor-end") controller.abort(new Error("enough"));
    })();
    await expect(aborted).rejects.toThrow("enough");
    expect(await readdir(to)).toEqual([]);
  });

  it("refuses a checkpoint in the run layout", async () => {
    await using dir = await temporaryFolder();
    const [from, half] = [join(dir.path, "from"), join(dir.path, "half")];
    await saveCheckpoint(from, { config: miniature, tensors: initialise(miniature, 5) });
    for await (const _ of quantiseCheckpoint({ from, out: half, to: "bf16" }));
    await expect(collect(convertCheckpoint({ from: half, to: join(dir.path, "to") }))).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
      message: `${half} is in the run layout, which is for serving; convert the checkpoint it was made from`,
    });
  });

  it("refuses to convert in place or over a checkpoint", async () => {
    await using dir = await temporaryFolder();
    const [from, to] = [join(dir.path, "from"), join(dir.path, "to")];
    await writeOriginalCheckpoint(from, miniature, 5);
    await saveCheckpoint(to, { config: miniature, tensors: initialise(miniature, 5) });
    await expect(collect(convertCheckpoint({ from, to: `${from}/` }))).rejects.toThrow("cannot be converted in place");
    await expect(collect(convertCheckpoint({ from, to }))).rejects.toMatchObject({ code: "CHECKPOINT_EXISTS" });
  });
});
