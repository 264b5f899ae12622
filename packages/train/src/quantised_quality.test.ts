import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Comparison, compareCheckpoints, type QuantiseOptions, quantiseCheckpoint } from "@zaya/model";
import { afterAll, beforeAll, expect, test } from "vitest";
import { evaluate } from "./evaluate.js";
import { randomText } from "./testing/text.js";
import { train } from "./train.js";

let dir: string;
let out: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "quality-"));
  out = join(dir, "run");
  const data = join(dir, "corpus.jsonl");
  await writeFile(
    data,
    randomText(400)
      .map((text) => JSON.stringify(text))
      .join("\n"),
  );
  const learning = { steps: 100, warmup: 20, context: 64, windows: 8, learningRate: 3e-3 };
  for await (const _ of train({ model: "zaya-tiny", data: [data], out, vocabSize: 270, heldOut: 0.1, ...learning }));
}, 240_000);
afterAll(() => rm(dir, { recursive: true }));

/** How near the model that was trained is to what is left of it in fewer bits, on text that it did not see. */
async function compare(name: string, widths: Pick<QuantiseOptions, "to" | "attention" | "head">): Promise<Comparison> {
  const reference = join(out, "latest");
  const candidate = join(dir, name);
  for await (const _ of quantiseCheckpoint({ from: reference, out: candidate, ...widths }));
  const records = (await readFile(join(out, "held-out.jsonl"), "utf8")).trim().split("\n");
  const text = records.map((record) => (JSON.parse(record) as { text: string }).text).join("");
  for await (const event of compareCheckpoints({ reference, candidate, text, context: 64, maxTokens: 1024 }))
    if (event.type === "compare-end") return event;
  throw new Error("the comparison did not end");
}

async function bitsPerByte(checkpoint: string): Promise<number> {
  for await (const event of evaluate({ checkpoint, data: [join(out, "held-out.jsonl")], context: 64 }))
    if (event.type === "evaluation-end") return event.bitsPerByte;
  throw new Error("the evaluation did not end");
}

test("a trained model keeps its predictions in 8 bits, and loses little in 4", { timeout: 240_000 }, async () => {
  const q8 = await compare("q8", { to: "q8" });
  const q4 = await compare("q4", { to: "q4" });
  const all4 = await compare("all4", { to: "q4", attention: 4, head: 4 });
  expect(q8.perplexity.reference).toBeLessThan(2); // it has learned: an untrained model has 270
  expect(q8.meanKl).toBeLessThan(5e-5);
  expect(q4.meanKl).toBeGreaterThan(q8.meanKl);
  expect(q4.meanKl).toBeLessThan(5e-3); // 2e-5 to 2e-3 over seeds and instruction sets: one token that goes to another expert decides it
  expect(all4.meanKl).toBeGreaterThan(1e-4); // attention and head in 4 bits too: what the bound of q8 would find
  expect(q8.topAgreement).toBeGreaterThan(0.995);
  expect(q4.topAgreement).toBeGreaterThan(0.99);
  const bits = await Promise.all(["run/latest", "q8", "q4"].map((name) => bitsPerByte(join(dir, name))));
  expect(Math.abs(bits[1]! / bits[0]! - 1)).toBeLessThan(1e-3);
  expect(Math.abs(bits[2]! / bits[0]! - 1)).toBeLessThan(2e-2);
  expect(bits[1]).not.toBe(bits[0]); // as they lie, not widened
  for (const share of [...q8.routingAgreement, ...q4.routingAgreement]) expect(share).toBeGreaterThan(0.97);
});

test("quantised weights are evaluated in their own types only", async () => {
  await compare("packed", { to: "q8" });
  const evaluation = evaluate({ checkpoint: join(dir, "packed"), data: [join(out, "held-out.jsonl")], dtype: "float32" });
  await expect(evaluation.next()).rejects.toMatchObject({
    code: "INVALID_OPTIONS",
    message: expect.stringMatching(/^dtype: .* leave it out$/),
  });
});
