import { cp, mkdir, mkdtemp, readdir, readFile, readlink, rename, rm, stat, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { loadCheckpoint } from "@zaya/model";
import { beforeAll, beforeEach, expect, test } from "vitest";
import { evaluate } from "./evaluate.js";
import type { EvaluationEnd, TrainEvent } from "./events.js";
import { sha256OfFile } from "./files.js";
import type { TrainOptions } from "./options.js";
import { resolveConfig } from "./prepare.js";
import { randomText } from "./testing/text.js";
import { resume, train } from "./train.js";

let data: string;
let out: string;
beforeAll(async () => {
  data = join(await mkdtemp(join(tmpdir(), "train-")), "corpus.jsonl");
  await writeFile(
    data,
    randomText(80)
      .map((text) => JSON.stringify(text))
      .join("\n"),
  );
});
beforeEach(async () => {
  out = join(await mkdtemp(join(tmpdir(), "train-")), "run");
});

const options = (more: Partial<TrainOptions> = {}): TrainOptions => ({
  model: "zaya-tiny",
  data: [data],
  out,
  steps: 6,
  vocabSize: 270,
  context: 32,
  windows: 2,
  heldOut: 0.1,
  threads: 2,
  ...more,
});

async function collect(events: AsyncIterable<TrainEvent>): Promise<TrainEvent[]> {
  const all: TrainEvent[] = [];
  for await (const event of events) all.push(event);
  return all;
}

test("trains, evaluates, saves a loadable checkpoint and says so in order", async () => {
  const events = await collect(train(options()));
  expect(events.map(({ type }) => type)).toEqual([
    "run-start",
    ...new Array(6).fill("step-end"),
    "evaluation-end",
    "checkpoint-end",
    "train-end",
  ]);
  expect(await readlink(join(out, "latest"))).toBe("checkpoints/step-00000006");
  await using checkpoint = await loadCheckpoint(join(out, "latest"));
  expect(checkpoint.config.vocabSize).toBe(270);
  await expect(stat(join(out, "lock"))).rejects.toThrow();
  const evaluated = events.find((event) => event.type === "evaluation-end");
  expect(evaluated?.bytes).toBeGreaterThan(0);
});

test.each(["float32", "bfloat16"] as const)(
  "keeps the held-out documents so that their evaluation gives the figures of the run, also when others are chosen: %s",
  async (dtype) => {
    const texts = join(await mkdtemp(join(tmpdir(), "train-")), "long.txt");
    await writeFile(texts, randomText(400).join("\n")); // several documents
    const same = { context: 32, windows: 2, dtype };
    const figuresOf = (events: TrainEvent[]) => {
      const { type: _type, step: _step, ...figures } = events.find((event) => event.type === "evaluation-end") as EvaluationEnd;
      return figures;
    };
    const first = figuresOf(await collect(train(options({ ...same, data: [texts], steps: 1, heldOut: 0.5, evaluateTokens: 1 }))));
    const second = figuresOf(await collect(resume(out, { steps: 2, evaluateTokens: 100_000 })));
    expect(second.bytes).toBeGreaterThan(first.bytes);
    for await (const event of evaluate({ ...same, checkpoint: join(out, "latest"), data: [join(out, "held-out.jsonl")] }))
      if (event.type === "evaluation-end") {
        const rounding = dtype === "float32" ? 0 : 1e-3; // a run keeps its weights in float32
        expect(event).toMatchObject({ tokens: second.tokens, bytes: second.bytes });
        for (const figure of ["loss", "bitsPerByte"] as const)
          expect(Math.abs(event[figure] / second[figure] - 1), figure).toBeLessThanOrEqual(rounding);
      }
    expect(await readFile(join(out, "held-out.jsonl"), "utf8")).toContain('"continues":true');
  },
);

test("cuts a single text of two windows to hold out a share of it, and evaluates that", async () => {
  const text = join(await mkdtemp(join(tmpdir(), "train-")), "short.txt");
  await writeFile(text, randomText(4).join("\n"));
  const events = await collect(train(options({ data: [text], steps: 1 })));
  const [start] = events;
  expect(start).toMatchObject({ data: { documents: 2, notHeldOut: null } });
  const { tokens } = events.find((event) => event.type === "evaluation-end") as EvaluationEnd;
  const { data } = start as Extract<TrainEvent, { type: "run-start" }>;
  expect(tokens).toBe(data.heldOutTokens);
  expect(tokens / (tokens + data.trainingTokens)).toBeGreaterThan(0.05);
  expect(tokens / (tokens + data.trainingTokens)).toBeLessThan(0.2);
  expect((await collect(resume(out, { steps: 2 })))[0]).toMatchObject({ data: { ...data, cached: true } });
});

test("holds nothing out of a text of less than two windows, and says why", async () => {
  const text = join(await mkdtemp(join(tmpdir(), "train-")), "short.txt");
  await writeFile(text, "one two three");
  const short = options({ data: [text], steps: 1 });
  const [start] = await collect(train(short));
  const notHeldOut = expect.stringMatching(/^the text is one document of \d+ tokens, and two windows of 32 are needed$/);
  expect(start).toMatchObject({ data: { heldOutTokens: 0, notHeldOut } });
  const [unasked] = await collect(train({ ...short, heldOut: 0, out: `${out}-unasked` }));
  expect(unasked).toMatchObject({ data: { heldOutTokens: 0, notHeldOut: null } });
});

test("evaluates on files of their own, and goes on with those alone, wherever they are", async () => {
  const [mine, moved] = [`${out}-evaluation.txt`, `${out}-moved.txt`];
  await writeFile(mine, randomText(3).join("\n"));
  const { heldOut: _heldOut, ...own } = options({ evaluationData: [mine], steps: 1 });
  const [start, ...events] = await collect(train(own));
  expect(start).toMatchObject({ data: { documents: 80, notHeldOut: null } });
  const { loss, tokens, bytes } = events.find((event) => event.type === "evaluation-end") as EvaluationEnd;
  expect(bytes).toBe((await stat(mine)).size);
  for await (const event of evaluate({ checkpoint: join(out, "latest"), data: [mine], context: 32, windows: 2 }))
    if (event.type === "evaluation-end") {
      expect(event).toMatchObject({ tokens, bytes });
      expect(Math.abs(event.loss / loss - 1)).toBeLessThan(1e-3);
    }
  await rename(mine, moved);
  await expect(collect(resume(out, { steps: 2 }))).rejects.toThrow(
    `${mine}: no such file; where the run's data has moved, name its files with the option evaluationData`,
  );
  expect((await collect(resume(out, { steps: 2, evaluationData: [moved] }))).at(-1)).toMatchObject({ type: "train-end", step: 2 });
  await expect(collect(train({ ...own, evaluationData: undefined, steps: 3, resume: true }))).rejects.toThrow(
    /other values of evaluationData/,
  );
  await writeFile(moved, "another text");
  await expect(collect(resume(out, { steps: 3 }))).rejects.toMatchObject({
    code: "RUN_MISMATCH",
    message: `the evaluation data is not what ${out} was evaluated on: its tokens differ`,
  });
});

test("refuses to evaluate on what is trained on", async () => {
  const { heldOut: _heldOut, ...own } = options({ evaluationData: [data] });
  await expect(collect(train(own))).rejects.toMatchObject({ code: "INVALID_DATA", message: `${data}: is named twice` });
});

test("a run that began with a whole text goes on with it", async () => {
  const text = join(await mkdtemp(join(tmpdir(), "train-")), "short.txt");
  await writeFile(text, randomText(4).join("\n"));
  await collect(train(options({ data: [text], steps: 1, heldOut: 0 })));
  const saved = JSON.parse(await readFile(join(out, "run.json"), "utf8"));
  await writeFile(join(out, "run.json"), JSON.stringify({ ...saved, run: { ...saved.run, heldOut: 0.1 } })); // as such runs were
  const [start] = await collect(resume(out, { steps: 2 }));
  expect(start).toMatchObject({ resumedFrom: 1, data: { documents: 1, heldOutTokens: 0, notHeldOut: "this run began without" } });
});

test("a call that failed before its run began leaves nothing to the next", async () => {
  const empty = join(await mkdtemp(join(tmpdir(), "train-")), "empty.txt");
  await writeFile(empty, "");
  await expect(collect(train(options({ data: [empty] })))).rejects.toMatchObject({ code: "INVALID_DATA" });
  const [start] = await collect(train(options({ steps: 1 })));
  expect(start).toMatchObject({ type: "run-start", vocabSize: 270 });
});

test.each([false, true])("a run that saved nothing makes room for another in its folder; resume: %s", async (resume) => {
  const before = { saveEvery: 9, learningRate: 1e30, warmup: 0, optimizer: { clip: 0 } };
  await expect(collect(train(options(before)))).rejects.toMatchObject({ code: "LOSS_NOT_FINITE" });
  expect(await readFile(join(out, "metrics.jsonl"), "utf8")).toContain('"step":1');
  expect(await readdir(out)).toEqual(expect.arrayContaining(["held-out.jsonl", "run.json", "timings.jsonl", "tokenizer"]));
  const { vocabSize: _vocabSize, ...rest } = options({ steps: 2, seed: 9, heldOut: 0, resume });
  const next = { ...rest, tokenizer: `${out}-tokenizer` };
  await cp(join(out, "tokenizer"), next.tokenizer, { recursive: true });
  expect((await collect(train(next)))[0]).toMatchObject({ type: "run-start", resumedFrom: null });
  const [fresh, names] = [`${out}-fresh`, async (folder: string) => (await readdir(folder)).sort()];
  await collect(train({ ...next, out: fresh }));
  expect(await names(out)).toEqual(await names(fresh));
  for (const name of ["metrics.jsonl", "run.json"])
    expect(await readFile(join(out, name), "utf8"), name).toBe(await readFile(join(fresh, name), "utf8"));
  expect((await readFile(join(out, "timings.jsonl"), "utf8")).trim().split("\n")).toHaveLength(2);
  await expectSameCheckpoint(out, fresh);
});

test("a run begins with the tokenizer that one before it made in its folder, and keeps it", async () => {
  for await (const _event of train(options())) break;
  const { vocabSize: _vocabSize, ...rest } = options({ steps: 1 });
  await collect(train({ ...rest, tokenizer: join(out, "tokenizer") }));
  expect(await readdir(join(out, "tokenizer"))).toContain("tokenizer.json");
  await expect(collect(train(options()))).rejects.toMatchObject({ code: "RUN_EXISTS" });
});

test("goes on without a checkpoint as the run began, for another length as well", async () => {
  const { vocabSize: _vocabSize, heldOut: _heldOut, ...rest } = options({ steps: 60 });
  const own = { ...rest, out: `${out}-own`, tokenizer: join(out, "tokenizer"), evaluationData: [`${out}.txt`] };
  await writeFile(`${out}.txt`, randomText(3).join("\n"));
  for await (const _event of train(options())) break;
  for await (const _event of train(own)) break;
  expect((await collect(resume(own.out, { steps: 2 }))).at(-1)).toMatchObject({ type: "train-end", step: 2 });
});

test("refuses to evaluate windows that do not fit into memory", async () => {
  await collect(train(options({ steps: 1 })));
  const events = evaluate({ checkpoint: join(out, "latest"), data: [data], context: 1e10 });
  await expect(events.next()).rejects.toThrow(/^an evaluation takes [\d.]+ [GTP]B of memory/);
});

test("refuses to evaluate a text of one token", async () => {
  await collect(train(options({ steps: 1 })));
  const checkpoint = join(out, "latest");
  const config = join(checkpoint, "tokenizer_config.json");
  const { bos_token: _bos, eos_token: _eos, ...rest } = JSON.parse(await readFile(config, "utf8"));
  await writeFile(config, JSON.stringify(rest));
  const text = join(await mkdtemp(join(tmpdir(), "train-")), "one.txt");
  await writeFile(text, "x");
  await expect(evaluate({ checkpoint, data: [text] }).next()).rejects.toMatchObject({
    code: "INVALID_DATA",
    message: `${text}: there is no token to predict`,
  });
});

test("names the checkpoint below the folder of a run that is given to start from", async () => {
  await collect(train(options({ steps: 1 })));
  const again = train({ ...options({ steps: 1, vocabSize: undefined }), model: undefined, from: out, out: `${out}-again` });
  await expect(collect(again)).rejects.toThrow(`the checkpoint is in ${join(out, "latest")}`);
});

// Step 4 and the last, 6, are evaluated; 4 is saved anyway.
test.each([3, 4, 6])("a run interrupted after step %i and resumed equals an uninterrupted one, on other threads", async (stop) => {
  const whole = options({ saveEvery: 4, evaluateEvery: 2, accumulation: 2 });
  await collect(train(whole));
  const parts: TrainOptions = { ...whole, out: `${out}-parts` };
  const controller = new AbortController();
  const interrupted: TrainEvent[] = [];
  const reason = new Error("enough");
  await expect(async () => {
    for await (const event of train({ ...parts, signal: controller.signal })) {
      interrupted.push(event);
      if (event.type === "step-end" && event.step === stop) controller.abort(reason);
    }
  }).rejects.toBe(reason);
  // The evaluation is not waited for, and is the first thing that the run that goes on does.
  expect(interrupted.slice(-2)).toMatchObject([
    { type: "step-end", step: stop },
    { type: "checkpoint-end", step: stop },
  ]);
  const events = await collect(resume(parts.out, { threads: 1 }));
  expect(events[0]).toMatchObject({ type: "run-start", resumedFrom: stop });
  expect(events[1]).toMatchObject(stop === 3 ? { type: "step-end", step: 4 } : { type: "evaluation-end", step: stop });
  expect(await readFile(join(parts.out, "metrics.jsonl"), "utf8")).toBe(await readFile(join(out, "metrics.jsonl"), "utf8"));
  await expectSameCheckpoint(parts.out, out);
});

async function expectSameCheckpoint(...runs: readonly string[]): Promise<void> {
  for (const file of ["config.json", "model.safetensors", "training/state.bin", "manifest.json"]) {
    const [one, two] = await Promise.all(runs.map((folder) => readFile(join(folder, "latest", file))));
    expect(one?.equals(two as Buffer), file).toBe(true);
  }
}

test("goes on as it began when what it started from is changed or gone", async () => {
  const [base, tokenizer] = [join(out, "latest"), join(out, "tokenizer")];
  await collect(train(options({ steps: 1 })));
  const { model: _model, vocabSize: _size, ...rest } = options({ from: base, tokenizer, steps: 2 });
  const [whole, parts] = [`${out}-whole`, `${out}-parts`];
  await collect(train({ ...rest, out: whole }));
  for await (const event of train({ ...rest, out: parts, saveEvery: 1 })) if (event.type === "checkpoint-end") break;
  const config = JSON.parse(await readFile(join(base, "config.json"), "utf8"));
  await writeFile(join(base, "config.json"), JSON.stringify({ ...config, rms_norm_eps: 0.1 }));
  await rm(tokenizer, { recursive: true });
  expect((await collect(resume(parts)))[0]).toMatchObject({ type: "run-start", resumedFrom: 1 });
  await expectSameCheckpoint(parts, whole);
  await rm(out, { recursive: true });
  expect((await collect(resume(parts, { steps: 3 }))).at(-1)).toMatchObject({ type: "train-end", step: 3 });
});

test("breaking out of the loop frees the folder, and keeps the last `keep` checkpoints", async () => {
  for await (const event of train(options({ saveEvery: 1, keep: 2 }))) if (event.type === "checkpoint-end" && event.step === 4) break;
  expect((await readdir(join(out, "checkpoints"))).sort()).toEqual(["step-00000003", "step-00000004"]);
  const events = await collect(train(options({ saveEvery: 1, keep: 2, resume: true })));
  expect(events.at(-1)).toMatchObject({ type: "train-end", step: 6 });
});

test("refuses a folder that holds a run, other options, and damage", async () => {
  await collect(train(options({ steps: 2 })));
  await expect(collect(train(options()))).rejects.toMatchObject({ code: "RUN_EXISTS" });
  await expect(collect(train(options({ resume: true, learningRate: 1, seed: 9 })))).rejects.toThrow(/other values of learningRate, seed/);
  await expect(collect(resume(`${out}-none`))).rejects.toMatchObject({ code: "NOT_A_RUN" });
  await expect(collect(resume(out, { seconds: 9 }))).rejects.toMatchObject({
    code: "INVALID_OPTIONS",
    message: `seconds: ${out} is limited by steps; go on with another number of steps`,
  });
  const model = join(out, "latest", "model.safetensors");
  await truncate(model, (await stat(model)).size - 1);
  await expect(collect(resume(out, { steps: 3 }))).rejects.toThrow(
    /model\.safetensors has \d+ bytes where \d+ were saved; there is no checkpoint before it; without this one the run begins again at step 1$/,
  );
});

test("a damaged checkpoint leaves those before it, however few are to be kept, and names the last of them", async () => {
  await collect(train(options({ steps: 3, saveEvery: 1, keep: 3 })));
  const model = join(out, "latest", "model.safetensors");
  await truncate(model, (await stat(model)).size - 1);
  await expect(collect(resume(out, { steps: 4, keep: 1 }))).rejects.toThrow(
    `remove ${join(out, "checkpoints", "step-00000003")} to go on from step-00000002`,
  );
  await rm(join(out, "checkpoints", "step-00000003"), { recursive: true });
  const events = await collect(resume(out, { steps: 3, keep: 1 }));
  expect(events[0]).toMatchObject({ type: "run-start", resumedFrom: 2 });
  expect(await readdir(join(out, "checkpoints"))).toEqual(["step-00000003"]);
});

test.each(["config.json", "tokenizer.json"])("names a checkpoint whose %s cannot be read", async (file) => {
  await collect(train(options({ steps: 1 })));
  await writeFile(join(out, "latest", file), "{");
  const checkpoint = join(out, "checkpoints", "step-00000001");
  await expect(collect(resume(out, { steps: 2 }))).rejects.toMatchObject({
    code: "CHECKPOINT_DAMAGED",
    message: expect.stringMatching(new RegExp(`${file}.*; remove ${checkpoint} to go on from what was saved before$`)),
  });
});

test("refuses a folder with checkpoints whose run.json is gone", async () => {
  await collect(train(options({ steps: 1 })));
  await rm(join(out, "run.json"));
  await expect(collect(train(options({ steps: 1 })))).rejects.toMatchObject({
    code: "NOT_A_RUN",
    message: `${out} holds checkpoints and no run.json; choose another folder`,
  });
});

test("names a run.json that is damaged", async () => {
  const path = join(out, "run.json");
  await mkdir(out);
  await writeFile(path, '{"formatVersion": 1, ');
  await expect(collect(resume(out))).rejects.toMatchObject({ code: "INVALID_DATA", message: expect.stringContaining(`${path}: not JSON`) });
  await writeFile(path, '{"formatVersion": 1, "run": {"data": []}, "limits": {}}');
  await expect(collect(resume(out))).rejects.toMatchObject({
    code: "NOT_A_RUN",
    message: expect.stringMatching(/run\.json is not that of a run: run\.data: /),
  });
});

test("goes on with the cache of before, and starts from a checkpoint with a longer context", async () => {
  const cache = `${out}-cache`;
  await collect(train(options({ steps: 1, cache })));
  await collect(resume(out, { steps: 2 }));
  expect(await readdir(out)).not.toContain("tokens");
  const { maxPositions } = await resolveConfig({ from: join(out, "latest"), model: undefined, context: 1_000_000 }, null);
  expect(maxPositions).toBe(1_000_000);
});

test("takes a limit of undefined for one that is not given", async () => {
  await collect(train(options({ steps: 2, keep: 3, saveEvery: 1 })));
  const before = await readFile(join(out, "run.json"), "utf8");
  await collect(resume(out, { steps: undefined, keep: undefined, saveEvery: undefined, cache: undefined }));
  expect(await readFile(join(out, "run.json"), "utf8")).toBe(before);
});

test("goes on with what run.json says where that is no longer given like that", async () => {
  const [base, path] = [`${out}-base`, join(out, "run.json")];
  await collect(train(options({ steps: 1, out: base })));
  const { model: _model, vocabSize: _size, ...rest } = options({ from: join(base, "latest"), steps: 3 });
  await collect(train(rest));
  const saved = JSON.parse(await readFile(path, "utf8"));
  expect(saved.run).toMatchObject({ fields: ["text"], vocabSize: 4096, warmup: 1 });
  const before = { ...saved, run: { ...saved.run, warmup: 20, fields: ["other"] } };
  await writeFile(path, JSON.stringify(before));
  const events = await collect(train({ ...rest, steps: 4, resume: true }));
  expect(events.find((event) => event.type === "step-end")).toMatchObject({ step: 4, learningRate: (1e-3 * 4) / 20 });
  expect(JSON.parse(await readFile(path, "utf8")).run).toEqual(before.run);
});

test("goes on with data that was moved, and with no other", async () => {
  const [mine, moved] = [`${out}.jsonl`, `${out}-moved.jsonl`];
  await writeFile(mine, await readFile(data));
  await collect(train(options({ data: [mine], steps: 1 })));
  await rename(mine, moved);
  await expect(collect(resume(out, { steps: 2 }))).rejects.toMatchObject({
    code: "INVALID_DATA",
    message: `${mine}: no such file; where the run's data has moved, name its files with the option data`,
  });
  const events = await collect(train(options({ data: [moved], steps: 2, resume: true })));
  expect(events[0]).toMatchObject({ type: "run-start", resumedFrom: 1 });
  expect(JSON.parse(await readFile(join(out, "run.json"), "utf8")).run.data).toEqual([moved]);
  await rename(moved, mine);
  expect((await collect(resume(out, { steps: 3, data: [mine] }))).at(-1)).toMatchObject({ type: "train-end", step: 3 });
  await expect(collect(resume(out, { steps: 4, data: [mine, data] }))).rejects.toMatchObject({ code: "RUN_MISMATCH" });
  expect(JSON.parse(await readFile(join(out, "run.json"), "utf8")).run.data).toEqual([mine]);
});

test("a run without a checkpoint makes its tokenizer of the texts that are there when it goes on", async () => {
  const mine = `${out}.jsonl`;
  const write = (text: string) => writeFile(mine, JSON.stringify(text.repeat(500)));
  const texts = options({ data: [mine], steps: 1, heldOut: 0 });
  const made = (folder: string) => readFile(join(folder, "tokenizer", "tokenizer.json"), "utf8");
  await write("the texts of before ");
  for await (const _event of train(texts)) break;
  const before = await made(out);
  await write("QUICK ZEBRAS JUMP ");
  await collect(resume(out));
  await collect(train({ ...texts, out: `${out}-other` }));
  expect(await made(out)).toBe(await made(`${out}-other`));
  expect(await made(out)).not.toBe(before);
  await expectSameCheckpoint(out, `${out}-other`);
});

test("refuses to go on when the data has changed, and leaves the run as it was", async () => {
  const mine = `${out}.jsonl`;
  const write = (texts: readonly string[]) => writeFile(mine, texts.map((text) => JSON.stringify(text)).join("\n"));
  const files = () => Promise.all(["run.json", "held-out.jsonl"].map((name) => readFile(join(out, name), "utf8")));
  await write(randomText(20));
  await collect(train(options({ data: [mine], steps: 2, heldOut: 0.5 })));
  const before = await files();
  await write(randomText(20).map((text) => `${text} and more`));
  await expect(collect(resume(out, { steps: 3 }))).rejects.toThrow(/its tokens differ/);
  expect(await files()).toEqual(before);
});

test("goes on with more steps than planned, from the weights of another run as well", async () => {
  await collect(train(options({ steps: 2 })));
  const more = await collect(resume(out, { steps: 3 }));
  expect(more.filter(({ type }) => type === "step-end").length).toBe(1);
  const fine = await collect(
    train({ from: join(out, "latest"), data: [data], out: `${out}-fine`, steps: 1, context: 32, windows: 2, heldOut: 0 }),
  );
  expect(fine.map(({ type }) => type)).toEqual(["run-start", "step-end", "checkpoint-end", "train-end"]);
  expect(fine[1]).toMatchObject({ step: 1 });
});

test("refuses to end before what is done, and leaves the run as it was", async () => {
  const files = () => Promise.all(["run.json", "metrics.jsonl"].map((name) => readFile(join(out, name), "utf8")));
  await collect(train(options({ steps: 3, evaluateEvery: 2 })));
  const before = await files();
  for (const steps of [1, 2, 3]) {
    await expect(collect(resume(out, { steps, evaluateEvery: 1 }))).rejects.toMatchObject({
      code: "INVALID_OPTIONS",
      message: `steps: ${out} has done 3 steps already; go on with more`,
    });
  }
  await expect(collect(train(options({ steps: 2, resume: true })))).rejects.toMatchObject({ code: "INVALID_OPTIONS" });
  expect(await files()).toEqual(before);
  for (const again of [resume(out), train(options({ steps: 3, evaluateEvery: 2, resume: true }))])
    expect((await collect(again)).map(({ type }) => type)).toEqual(["run-start", "train-end"]);
  expect(await files()).toEqual(before);
});

test("refuses to end before the time that was trained", async () => {
  const { steps: _steps, ...timed } = options();
  await collect(train({ ...timed, seconds: 1e-3 }));
  const before = await readFile(join(out, "run.json"), "utf8");
  await expect(collect(resume(out, { seconds: 1e-4 }))).rejects.toMatchObject({
    code: "INVALID_OPTIONS",
    message: expect.stringMatching(/^seconds: .* has trained for \d+\.\d s already; go on with more$/),
  });
  expect(await readFile(join(out, "run.json"), "utf8")).toBe(before);
});

test.each([0, 0.1])("saves no weights whose loss is not a number, and keeps what was saved; held out: %d", async (heldOut) => {
  const wild = options({ learningRate: 1e30, warmup: 0, saveEvery: 1, heldOut, optimizer: { clip: 0 } });
  const controller = new AbortController();
  const reason = new Error("enough");
  await expect(async () => {
    for await (const { type } of train({ ...wild, signal: controller.signal })) if (type === "run-start") controller.abort(reason);
  }).rejects.toBe(reason);
  await expect(collect(resume(out))).rejects.toMatchObject({
    code: "LOSS_NOT_FINITE",
    message: expect.stringMatching(/^step 1: the weights give a loss of NaN; the newest checkpoint is that of step 0\./),
  });
  expect(await readdir(join(out, "checkpoints"))).toEqual(["step-00000000"]);
});

test("says of the newest checkpoint that its own weights give no number", async () => {
  await collect(train(options({ steps: 1, heldOut: 0 })));
  await spoilWeights(join(out, "latest"));
  await expect(collect(resume(out, { steps: 2 }))).rejects.toMatchObject({
    code: "LOSS_NOT_FINITE",
    message: expect.stringMatching(
      /^step 2: loss NaN, .*; the newest checkpoint, whose weights gave this, is that of step 1\. .* earlier checkpoint/,
    ),
  });
});

/** Makes the weights so large that they give no number. */
async function spoilWeights(checkpoint: string): Promise<void> {
  const [model, manifest] = [join(checkpoint, "model.safetensors"), join(checkpoint, "manifest.json")];
  const bytes = await readFile(model);
  for (let at = 8 + Number(bytes.readBigUInt64LE()); at < bytes.length; at += 4) bytes.writeFloatLE(1e30, at);
  await writeFile(model, bytes);
  const { sha256: _, ...saved } = JSON.parse(await readFile(manifest, "utf8"));
  saved.files["model.safetensors"].sha256 = await sha256OfFile(model);
  await writeFile(manifest, JSON.stringify(saved));
}

test("stops with an error when the held-out loss is not a number, and saves nothing", async () => {
  const running = collect(train(options({ learningRate: 1e30, warmup: 0, steps: 1, optimizer: { clip: 0 } })));
  await expect(running).rejects.toMatchObject({
    code: "LOSS_NOT_FINITE",
    message: expect.stringMatching(/^step 1: held-out loss NaN; nothing was saved yet\./),
  });
  expect(await readFile(join(out, "metrics.jsonl"), "utf8")).not.toContain("evaluationLoss");
  expect(await readdir(out)).not.toContain("checkpoints");
});

test("refuses to call the loss of a checkpoint a number when it is none", async () => {
  await collect(train(options({ steps: 1 })));
  const checkpoint = join(out, "latest");
  await spoilWeights(checkpoint);
  await expect(evaluate({ checkpoint, data: [data] }).next()).rejects.toMatchObject({
    code: "LOSS_NOT_FINITE",
    message: expect.stringMatching(`^${checkpoint}: the loss of the first \\d+ tokens is NaN$`),
  });
});

test("trains for a time instead of steps", async () => {
  const { steps: _steps, ...timed } = options({ warmup: 2 });
  const events = await collect(train({ ...timed, seconds: 0.5 }));
  expect(events.at(-1)?.type).toBe("train-end");
  const rates = events.flatMap((event) => (event.type === "step-end" ? [event.learningRate] : []));
  expect(rates[0]).toBeCloseTo(5e-4, 9);
  if (rates.length > 4) expect(rates.at(-1)).toBeLessThan(rates[2] ?? 0);
});
