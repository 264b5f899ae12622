import { mkdir, mkdtemp, readdir, readFile, rename, writeFile } from "node:fs/promises";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { main } from "./program.js";

const isTerminal = process.stderr.isTTY;
let folder: string;
let errors: string;
let output: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "app-"));
  errors = "";
  output = "";
  vi.spyOn(process.stderr, "write").mockImplementation((text) => {
    errors += text;
    return true;
  });
  vi.spyOn(process.stdout, "write").mockImplementation((text) => {
    output += text;
    return true;
  });
});
afterEach(() => {
  vi.useRealTimers();
  process.stderr.isTTY = isTerminal;
  vi.restoreAllMocks();
  vi.unstubAllEnvs();
  process.exitCode = undefined;
});

const run = (...args: string[]) => main(args, "0.0.0");

test.each([
  ["a file that is not there", ["train", "/nowhere/a.txt", "--out", "OUT", "--steps", "1"], /a\.txt: no such file/],
  [
    "an unknown preset",
    ["train", "TEXT", "--out", "OUT", "--steps", "1", "--model", "zaya-huge"],
    /no preset "zaya-huge"; there are zaya1-8b/,
  ],
  [
    "a preset by the name of what every object has",
    ["train", "TEXT", "--out", "OUT", "--steps", "1", "-m", "constructor"],
    /no preset "constructor"; there are zaya1-8b/,
  ],
  ["an unknown preset to measure", ["bench", "zaya-huge"], /no preset "zaya-huge"/],
  ["a step to measure that does not fit", ["bench", "--context", "999999"], /takes [\d.]+ [GTP]B of memory.* there are/],
  [
    "a step to train that does not fit",
    ["train", "TEXT", "--out", "OUT", "--steps", "1", "--model", "zaya-tiny", "--windows", "999999"],
    /takes [\d.]+ [GTP]B of memory.* there are/,
  ],
  [
    "more microbatches than a step can have",
    ["train", "TEXT", "--out", "OUT", "--steps", "1", "--accumulation", "9007199254740991"],
    /--accumulation: expected a number up to 1048576, received 9007199254740991$/m,
  ],
  ["no length", ["train", "TEXT", "--out", "OUT"], /say how long to train: --steps or --seconds$/m],
  ["two lengths", ["train", "TEXT", "--out", "OUT", "--steps", "1", "--seconds", "1"], /: --steps and --seconds are both given/],
  [
    "all of the text held out",
    ["train", "TEXT", "--out", "OUT", "--steps", "1", "--held-out", "1"],
    /: --held-out: expected a number up to 0.5, received 1$/m,
  ],
  [
    "two coefficients that are too large",
    ["train", "TEXT", "--out", "OUT", "--steps", "1", "--beta1", "1", "--final-lr", "2"],
    /: --final-lr: expected a number up to 1, received 2; --beta1: expected a number below 1, received 1$/m,
  ],
  ["a folder without a name", ["train", "TEXT", "-o", "", "--steps", "1"], /: --out: name a folder$/m],
  [
    "two kinds of data to evaluate on",
    ["train", "TEXT", "--out", "OUT", "--steps", "1", "--held-out", "0.1", "--eval-data", "TEXT"],
    /: --held-out and --eval-data are both given; choose one$/m,
  ],
  ["a number that is none", ["train", "TEXT", "--out", "OUT", "--steps", "many"], /--steps.*whole number/],
  ["an unknown option", ["train", "TEXT", "--out", "OUT", "--stepz", "1"], /unknown option '--stepz'/],
  ["a folder without a run", ["resume", "/nowhere"], /there is no run\.json/],
  ["malformed JSONL", ["train", "JSONL", "--out", "OUT", "--steps", "1"], /bad\.jsonl:1: not JSON/],
  [
    "JSON that is no lines",
    ["tokenizer", "train", "/nowhere/a.json", "--out", "OUT"],
    /a\.json: is JSON as a whole; write it to a \.jsonl/,
  ],
  ["fields of a text", ["eval", "/nowhere", "TEXT", "--fields", "text"], /--fields: only records have them/],
  ["a warm-up as long as the run", ["train", "TEXT", "--out", "OUT", "--steps", "5", "--warmup", "5"], /--warmup: 5 steps leave nothing/],
  [
    "a vocabulary for a tokenizer that is there",
    ["train", "TEXT", "--out", "OUT", "--steps", "1", "--tokenizer", "/nowhere", "--vocab-size", "300"],
    /--vocab-size and --tokenizer are both given/,
  ],
  ["a checkpoint that is none", ["eval", "/nowhere", "TEXT"], /config\.json: no such file/],
  ["an unknown preset to make", ["init", "zaya-huge", "--out", "OUT"], /no preset "zaya-huge"/],
  ["two types", ["init", "zaya-tiny", "--out", "OUT", "--to", "q4", "--dtype", "float32"], /--dtype and --to are both given/],
  [
    "a folder without a tokenizer",
    ["init", "zaya-tiny", "--out", "OUT", "--tokenizer", "/nowhere"],
    /\/nowhere: there is no tokenizer\.json/,
  ],
  ["no folder to make one in", ["init", "zaya-tiny"], /one preset and one folder/],
  [
    "a tokenizer that is too small to be one",
    ["tokenizer", "train", "TEXT", "--out", "OUT", "--vocab-size", "100"],
    /whole number from 261 on/,
  ],
  ["a run where a file is", ["resume", "TEXT"], /there is no run\.json/],
  ["a file where a folder is to be", ["init", "zaya-tiny", "--out", "TEXT"], /text\.txt is a file; choose another folder/],
  ["a folder that cannot be made", ["train", "TEXT", "--out", "/proc/zaya/run", "--steps", "1"], /ENOENT.*\/proc\/zaya/],
  ["a preset and a checkpoint to estimate", ["estimate", "zaya-tiny", "--from", "/nowhere"], /<preset> and --from are both given/],
  ["more threads than there may be", ["bench", "zaya-tiny", "--threads", "100000"], /threads must be a whole number from 1 to/],
  ["nothing to convert", ["convert", "/nowhere", "OUT"], /config\.json: no such file/],
])("answers %s with a clear line and exit code 2", async (_what, args, message) => {
  await writeFile(join(folder, "text.txt"), "Some text. ".repeat(100));
  await writeFile(join(folder, "bad.jsonl"), '{"text": ');
  const places = new Map(
    Object.entries({ OUT: "out", TEXT: "text.txt", JSONL: "bad.jsonl" }).map(([word, name]) => [word, join(folder, name)]),
  );
  expect(await run(...args.map((arg) => places.get(arg) ?? arg))).toBe(2);
  expect(errors).toMatch(message);
  expect(errors).not.toMatch(/^ {4}at /m);
});

test("answers bad input of a training with one line", async () => {
  expect(await run("train", "/nowhere/a.txt", "--out", join(folder, "out"), "--steps", "1")).toBe(2);
  expect(errors).toBe("zaya-train: /nowhere/a.txt: no such file\n");
});

test("says that it is reading when that takes a while", async () => {
  await writeFile(join(folder, "text.txt"), "Some text. ".repeat(200));
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
  const ended = run("train", join(folder, "text.txt"), "--out", join(folder, "out"), "--model", "zaya-tiny", "--steps", "9");
  vi.advanceTimersByTime(299);
  expect(errors).toBe("");
  vi.advanceTimersByTime(1);
  expect(errors).toBe("reading and tokenising\n");
  process.emit("SIGINT");
  expect(await ended).toBe(4);
});

test("tells how to go on in words that a shell takes", async () => {
  const [text, out] = [join(folder, "text.txt"), join(folder, "my run")];
  await writeFile(text, "Some text. ".repeat(200));
  const shape = ["--model", "zaya-tiny", "--context", "16", "--windows", "1", "--vocab-size", "270"];
  process.stderr.isTTY = true; // shows every step
  const ended = run("train", text, "--out", out, "--steps", "1000000", ...shape);
  while (!errors.includes("step 1")) await new Promise((resolve) => setImmediate(resolve));
  process.emit("SIGINT");
  expect(await ended).toBe(4);
  expect(errors).toContain(`stopped and saved; go on with: zaya-train resume '${out}'\n`);
  process.exitCode = undefined;
  expect(await run("train", text, "--out", `${out} too`, "--steps", "1", ...shape)).toBe(0);
  expect(output).toContain(`npx zaya-serve '${out} too/latest'\n`);
});

test("answers a locked folder with exit code 5", async () => {
  await mkdir(join(folder, "out"));
  await writeFile(join(folder, "text.txt"), "Some text.");
  await writeFile(join(folder, "out", "lock"), JSON.stringify({ pid: 1, host: `not-${hostname()}`, started: null }));
  expect(await run("train", join(folder, "text.txt"), "--out", join(folder, "out"), "--steps", "1")).toBe(5);
  expect(errors).toMatch(/process 1 on not-/);
});

test("tells that a run is at its end, and how to go on", async () => {
  await writeFile(join(folder, "text.txt"), "Some text. ".repeat(200));
  const out = join(folder, "out");
  const shape = ["--model", "zaya-tiny", "--context", "16", "--windows", "1", "--vocab-size", "270"];
  expect(await run("train", join(folder, "text.txt"), "--out", out, "--steps", "2", ...shape)).toBe(0);
  expect(await run("resume", out)).toBe(0);
  expect(errors).toContain("2 steps are done already; go on with a larger --steps\n");
  expect(await run("resume", out, "--steps", "1")).toBe(2);
  expect(errors).toContain(`zaya-train: --steps: ${out} has done 2 steps already; go on with more\n`);
});

test("trains with the optimizer that is asked for", async () => {
  const [text, out] = [join(folder, "text.txt"), join(folder, "out")];
  await writeFile(text, "Some text. ".repeat(200));
  const shape = ["--model", "zaya-tiny", "--context", "16", "--windows", "1", "--vocab-size", "270"];
  const coefficients = ["--beta1", "0.8", "--beta2", "0", "--eps", "1e-6", "--momentum", "0.9", "--weight-decay", "0", "--decay", "all"];
  const optimizer = ["--optimizer", "muon", "--clip", "2", ...coefficients];
  expect(await run("train", text, "--out", out, "--steps", "1", ...shape, ...optimizer)).toBe(0);
  expect(JSON.parse(await readFile(join(out, "run.json"), "utf8")).run.optimizer).toEqual({
    name: "muon",
    clip: 2,
    beta1: 0.8,
    beta2: 0,
    eps: 1e-6,
    momentum: 0.9,
    weightDecay: 0,
    decay: "all",
  });
});

test("says why nothing is held out of a text", async () => {
  await writeFile(join(folder, "text.txt"), "Some text.");
  expect(await run("train", join(folder, "text.txt"), "--out", join(folder, "out"), "--model", "zaya-tiny", "--steps", "1")).toBe(0);
  expect(errors).toMatch(
    /^nothing is held out, nor evaluated: the text is one document of \d+ tokens, and two windows of 512 are needed$/m,
  );
});

test("evaluates on other files, and goes on with data that was moved", async () => {
  const [text, moved, other, out] = ["text.txt", "moved.txt", "other.txt", "out"].map((name) => join(folder, name)) as [
    string,
    string,
    string,
    string,
  ];
  await writeFile(text, "Some text. ".repeat(200));
  const shape = ["--model", "zaya-tiny", "--context", "16", "--windows", "1", "--vocab-size", "270"];
  await writeFile(other, "Other text. ".repeat(20));
  expect(await run("train", text, "--eval-data", other, "--out", out, "--steps", "1", ...shape)).toBe(0);
  expect(errors).toMatch(/^step 1 {2}.*held out/m);
  await rename(text, moved);
  expect(await run("resume", out, "--steps", "2")).toBe(2);
  expect(errors).toContain("text.txt: no such file; where the run's data has moved, name its files with the option --data\n");
  expect(await run("resume", out, "--steps", "2", "--data", moved, "--eval-data", other)).toBe(0);
});

test("says that nothing was saved of a run that was stopped before its first step", async () => {
  await writeFile(join(folder, "text.txt"), "Some text. ".repeat(200));
  const ended = run("train", join(folder, "text.txt"), "--out", join(folder, "out"), "--model", "zaya-tiny", "--steps", "9");
  process.emit("SIGINT");
  expect(await ended).toBe(4);
  expect(errors).toContain("stopped before the first step; nothing was saved\n");
});

test("draws the loss of a run that was stopped, and of one that diverged", async () => {
  const [text, stopped, wild] = [join(folder, "text.txt"), join(folder, "stopped"), join(folder, "wild")];
  await writeFile(text, "Some text. ".repeat(200));
  const shape = ["--model", "zaya-tiny", "--context", "16", "--windows", "1", "--vocab-size", "270"];
  const ended = run("train", text, "--out", stopped, "--steps", "1000000", "--json", ...shape);
  while (!output.includes("step-end")) await new Promise((resolve) => setImmediate(resolve));
  process.emit("SIGINT");
  expect(await ended).toBe(4);
  expect(await readFile(join(stopped, "loss.svg"), "utf8")).toContain("<polyline");
  expect(await run("train", text, "--out", wild, "--steps", "9", "--lr", "1e30", "--warmup", "0", "--clip", "0", ...shape)).toBe(1);
  expect(errors).toContain("zaya-train: step 2: loss NaN");
  expect(await readFile(join(wild, "loss.svg"), "utf8")).toContain("step 1<");
});

test("removes the tokens it made for an evaluation that is stopped", async () => {
  const places = [join(folder, "checkpoint"), join(folder, "tokenizer"), join(folder, "temporary")];
  const [checkpoint, tokenizer, temporary] = places as [string, string, string];
  vi.stubEnv("TMPDIR", temporary);
  await mkdir(temporary);
  await writeFile(join(folder, "text.txt"), "Some text. ".repeat(2000));
  expect(await run("tokenizer", "train", join(folder, "text.txt"), "--out", tokenizer, "--vocab-size", "270")).toBe(0);
  expect(await run("init", "zaya-tiny", checkpoint, "--tokenizer", tokenizer)).toBe(0);
  errors = "";
  const ended = run("eval", checkpoint, join(folder, "text.txt"), "--context", "16", "--windows", "1");
  while (!errors.includes("tokens  loss")) await new Promise((resolve) => setImmediate(resolve));
  expect(await readdir(temporary)).toHaveLength(1);
  process.emit("SIGINT");
  expect(await ended).toBe(4);
  expect(await readdir(temporary)).toEqual([]);
});

test.each(["train", "resume", "estimate", "eval", "tokenizer", "convert", "init"])("explains %s", async (command) => {
  expect(await run(command, "--help")).toBe(0);
  expect(output).toContain(`zaya-train ${command}`);
});

test("tells no defaults that a resumed run does not take", async () => {
  expect(await run("resume", "--help")).toBe(0);
  expect(output).toContain("(default: as before)");
  expect(output).not.toMatch(/default \d/);
});

test("measures a training step as JSON", async () => {
  expect(await run("bench", "zaya-tiny", "--context", "16", "--windows", "1", "-r", "2", "--threads", "1", "--json")).toBe(0);
  const { machine, limits, results } = JSON.parse(output);
  expect(machine).toMatchObject({ threads: 1 });
  expect(limits.bfloat16).toBeGreaterThan(0);
  expect(results).toEqual([expect.objectContaining({ name: "train16", dtype: "bfloat16", batch: 1, depth: 16 })]);
});

test("says in one line that there is no such reference", async () => {
  expect(await run("bench", "zaya-tiny", "--context", "16", "--windows", "1", "-r", "1", "--reference", "/nowhere/python")).toBe(2);
  expect(errors.trim().split("\n").at(-1)).toBe("zaya-train: --reference /nowhere/python: no such program");
});

test("says in one line that the reference failed, and how", async () => {
  const python = join(folder, "python");
  await writeFile(python, "#!/bin/sh\necho 'Traceback' >&2\necho 'ModuleNotFoundError: No module named torch' >&2\nexit 1\n", {
    mode: 0o755,
  });
  expect(await run("bench", "zaya-tiny", "--context", "16", "--windows", "1", "-r", "1", "--reference", python)).toBe(2);
  expect(errors.trim().split("\n").at(-1)).toBe(`zaya-train: --reference ${python}: ModuleNotFoundError: No module named torch`);
});

test("a benchmark that is stopped tells what is done", async () => {
  const python = join(folder, "python");
  await writeFile(python, `#!/bin/sh\ntouch '${folder}/started'\nexec sleep 60\n`, { mode: 0o755 });
  const ended = run("bench", "zaya-tiny", "--context", "16", "--windows", "1", "-r", "1", "--reference", python, "--json");
  while (!(await readdir(folder)).includes("started")) await new Promise((resolve) => setImmediate(resolve));
  process.emit("SIGINT");
  expect(await ended).toBe(4);
  const { machine, limits, ...rest } = JSON.parse(output);
  expect(machine.threads).toBeGreaterThan(0);
  expect(limits.bfloat16).toBeGreaterThan(0);
  expect(rest).toEqual({ results: [expect.objectContaining({ name: "train16" })] });
});

test.each([true, false])("a benchmark that is stopped in its steps tells those that were finished; JSON: %s", async (json) => {
  process.stderr.isTTY = true; // shows every step
  const more = json ? ["--json"] : [];
  const ended = run("bench", "zaya-tiny", "--context", "16", "--windows", "1", "-r", "1000000", "--threads", "1", ...more);
  while (!errors.includes("step 1 of")) await new Promise((resolve) => setImmediate(resolve));
  process.emit("SIGINT");
  expect(await ended).toBe(4);
  expect(errors).toContain("zaya-train: stopped; what was measured until then stands\n");
  if (json) expect(JSON.parse(output)).toMatchObject({ limits: null, results: [{ name: "train16", operations: [] }] });
  else expect(output).toMatch(/train16 \(1 × 16\): \d+ ± \d+ tokens\/s.*\n {2}a step takes [\d.]+ ms\n/);
});

test("stops the steps of an estimate at Ctrl-C", async () => {
  const ended = run("estimate", "zaya-tiny", "--context", "16", "--windows", "1");
  process.emit("SIGINT");
  expect(await ended).toBe(4);
  expect(errors).toBe("zaya-train: stopped\n");
  expect(output).toBe("");
});

test("stops making a checkpoint at Ctrl-C, and leaves nothing of it", async () => {
  const out = join(folder, "out");
  const ended = run("init", "zaya-tiny", "--out", out, "--threads", "1");
  while (!errors.includes("experts balanced")) await new Promise((resolve) => setImmediate(resolve));
  process.emit("SIGINT");
  expect(await ended).toBe(4);
  expect(errors).toContain("zaya-train: stopped; what was written is removed\n");
  expect(await readdir(out)).toEqual([]);
});
