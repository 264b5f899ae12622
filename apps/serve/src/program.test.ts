import { mkdtemp, rm, stat, writeFile } from "node:fs/promises";
import { type AddressInfo, connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { fileURLToPath } from "node:url";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { initialise, presets, saveCheckpoint } from "@zaya/model";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { runProgram } from "./program.js";
import { captureOutput } from "./testing/capture_output.js";
import { saveTinyCheckpoint } from "./testing/tiny_checkpoint.js";

let dir: string;
let checkpoint: string;
const output = captureOutput();

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "zaya-serve-"));
  checkpoint = join(dir, "tiny");
  await saveTinyCheckpoint(checkpoint);
});
afterAll(() => rm(dir, { recursive: true }));

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setImmediate(resolve));
}

/** Streams a completion, calling back at each piece of it, and returns all that came. */
async function readStream(url: string, maxTokens: number, onPiece: () => void): Promise<string> {
  const body = JSON.stringify({ prompt: "the", max_tokens: maxTokens, stream: true, ignore_eos: true });
  const response = await fetch(`${url}/v1/completions`, { method: "POST", headers: { "content-type": "application/json" }, body });
  const decoder = new TextDecoder();
  let text = "";
  for await (const piece of response.body as ReadableStream<Uint8Array>) {
    text += decoder.decode(piece, { stream: true });
    onPiece();
  }
  return text;
}

test("completes a prompt on stdout, the same for the same seed", async () => {
  const words = ["complete", checkpoint, "the", "fox", "--max-tokens", "12", "--seed", "5"];
  expect(await runProgram(words)).toBe(0);
  const text = output.stdout;
  output.stdout = "";
  expect(await runProgram([...words, "--json"])).toBe(0);
  const answer = JSON.parse(output.stdout) as Record<string, unknown>;
  expect(`${answer.text}\n`).toBe(text);
  expect(answer).toMatchObject({
    model: "tiny",
    prompt: "the fox",
    seconds: { prompt: expect.any(Number), generation: expect.any(Number) },
  });
  expect((answer.tokenIds as number[]).length).toBeLessThanOrEqual(12);
});

test("takes the prompt from stdin without the newline at its end", async () => {
  const stdin = vi.spyOn(process, "stdin", "get").mockReturnValue(Readable.from(["the\n", "fox\n"]) as typeof process.stdin);
  expect(await runProgram(["complete", checkpoint, "--max-tokens", "2", "--json"])).toBe(0);
  stdin.mockRestore();
  expect(JSON.parse(output.stdout)).toMatchObject({ prompt: "the\nfox" });
});

test("ends before any of the texts to stop at, and takes what follows them as the prompt", async () => {
  const words = ["complete", checkpoint, "--max-tokens", "20", "--seed", "1", "--json"];
  expect(await runProgram([...words, "the quick"])).toBe(0);
  const { text } = JSON.parse(output.stdout) as { text: string };
  const [first, second] = [text.slice(8, 10), text.slice(4, 6)];
  const before = output.stdout.length;
  expect(await runProgram([...words, "--stop", first, "--stop", second, "the quick"])).toBe(0);
  const stopped = JSON.parse(output.stdout.slice(before)) as { text: string; prompt: string };
  expect(stopped.prompt).toBe("the quick");
  expect(stopped.text).toBe(text.slice(0, Math.min(text.indexOf(first), text.indexOf(second))));
});

test("serves by default, tells what to open, and finishes what runs when it is told to stop", async () => {
  const ended = runProgram([checkpoint, "--port", "0", "--threads", "1", "--context", "1024"]);
  await until(() => output.stdout.includes("curl"));
  expect(output.stdout).toMatch(/tiny {2}[\d.]+ K parameters, [\d.]+ K active\n/);
  expect(output.stdout).toMatch(
    /kernels \w+ on 1 thread \((the best of this processor|asked for by ZAYA_ISA).*\); types of weights: asked for as bfloat16, of keys and values: bfloat16\n/,
  );
  expect(output.stdout).toMatch(
    /\n {2}bfloat16 products, [^:]+: projections bfloat16 \(cca_project, linear\), experts bfloat16 \(experts\), head/,
  );
  expect(output.stdout).toMatch(/\n {2}float32 products, [^:]+: convolutions float32 \(cca_heads\), router float32 \(router\)\n/);
  expect(output.stdout).toMatch(
    /expected ≤ [\d.]+ tokens\/s for one request \([\d.]+ kB a token at [\d.]+ [kMG]B\/s: head [\d.]+ kB, attention/,
  );
  expect(output.stdout).toMatch(/memory up to [\d.]+ MB .* context 1024 tokens, 16 requests at once/);
  const url = /http:\/\/127\.0\.0\.1:\d+/.exec(output.stdout)?.[0] as string;
  expect(await (await fetch(`${url}/v1/models`)).json()).toMatchObject({ data: [{ id: "tiny" }] });
  expect(output.stdout.includes(`  open  ${url}/\n`)).toBe((await fetch(`${url}/`)).ok);
  const { port } = new URL(url);
  await using unfinished = connect(Number(port), "127.0.0.1");
  unfinished
    .on("error", () => {})
    .write("POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{");
  let told = 0;
  const text = await readStream(url, 400, () => {
    if (told++ === 0) process.emit("SIGTERM");
  });
  expect(text).toContain('"finish_reason":"length"');
  expect(text.endsWith("data: [DONE]\n\n")).toBe(true);
  expect(await ended).toBe(0);
  expect(output.stderr).toContain("finishing 1 request;");
});

test.each([
  { host: "127.0.0.1", key: [], warned: false },
  { host: "0.0.0.0", key: ["--api-key", "a-key"], warned: false },
  { host: "0.0.0.0", key: [], warned: true },
])("on $host with the key $key it says who may use it: $warned", async ({ host, key, warned }) => {
  const ended = runProgram(["serve", checkpoint, "--port", "0", "--host", host, ...key, "--allow-host", "zaya.example", "--json"]);
  await until(() => output.stdout.includes("listening"));
  const { url } = JSON.parse(output.stdout) as { url: string };
  expect((await fetch(`${url}/v1/models`)).status).toBe(key.length > 0 ? 401 : 200);
  expect((await fetch(`${url}/v1/models`, { headers: { authorization: "Bearer a-key" } })).status).toBe(200);
  expect(output.stderr.includes("whoever reaches --host 0.0.0.0 may use the server; --api-key")).toBe(warned);
  process.emit("SIGTERM");
  expect(await ended).toBe(0);
});

test("takes bounds of its batch and of its queue", async () => {
  const words = ["--max-sequences", "1", "--max-waiting", "0", "--max-batch-tokens", "16", "--context", "1024"];
  const ended = runProgram(["serve", checkpoint, "--port", "0", ...words, "--json"]);
  await until(() => output.stdout.includes("listening"));
  const { url } = JSON.parse(output.stdout) as { url: string };
  let asked: Promise<Response> | undefined;
  await readStream(url, 1000, () => {
    asked ??= fetch(`${url}/ready`);
  });
  expect((await asked)?.status).toBe(503);
  expect((await fetch(`${url}/ready`)).status).toBe(200);
  process.emit("SIGTERM");
  expect(await ended).toBe(0);
});

test("takes the key from the environment, and does not tell it", async () => {
  vi.stubEnv("ZAYA_API_KEY", "a-key");
  const ended = runProgram(["serve", checkpoint, "--port", "0"]);
  await until(() => output.stdout.includes("curl"));
  expect(output.stdout).toContain('-H "authorization: Bearer $ZAYA_API_KEY"');
  expect(output.stdout + output.stderr).not.toContain("a-key");
  const [url] = /http:\/\/127\.0\.0\.1:\d+/.exec(output.stdout) as RegExpExecArray;
  expect((await fetch(`${url}/v1/models`)).status).toBe(401);
  process.emit("SIGTERM");
  expect(await ended).toBe(0);
  vi.unstubAllEnvs();
});

test("stops at once when it is told twice", async () => {
  const ended = runProgram(["serve", checkpoint, "--port", "0", "--drain-seconds", "1.0005", "--json"]);
  await until(() => output.stdout.includes("listening"));
  const { url } = JSON.parse(output.stdout) as { url: string };
  let told = 0;
  const text = await readStream(url, 2000, () => {
    if (told++ < 2) process.emit("SIGINT");
  });
  expect(text).toContain('data: {"error":{"message":"the engine was disposed');
  expect(await ended).toBe(4);
  expect(output.stdout).toContain('"outcome":"again"');
});

test("stops when what runs has had its time, whatever memory was collected meanwhile", async () => {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  const ended = runProgram(["serve", checkpoint, "--port", "0", "--drain-seconds", "0.05", "--json"]);
  await until(() => output.stdout.includes("listening"));
  const { url } = JSON.parse(output.stdout) as { url: string };
  let told = 0;
  await readStream(url, 2000, () => {
    if (told === 0) process.emit("SIGTERM");
    if (told++ < 3) collect();
  });
  expect(await ended).toBe(4);
  expect(output.stdout).toContain('"outcome":"late"');
});

test.each([
  { command: "complete", rest: ["the", "--json"] },
  { command: "serve", rest: ["--port", "0"] },
])("$command stops at Ctrl-C while it loads", async ({ command, rest }) => {
  const ended = runProgram([command, checkpoint, ...rest]);
  await until(() => /loading [\d.]+ kB of/.test(output.stderr));
  process.emit("SIGINT");
  expect(await ended).toBe(4);
  expect(output.stderr).toMatch(/\nzaya-serve: stopped while loading\n$/);
  expect(output.stdout).toBe("");
});

test("measures a checkpoint: the machine, its limits, and a result for every test", async () => {
  const words = ["bench", checkpoint, "-p", "16", "-n", "2", "-d", "0,8", "-b", "1,2", "-r", "2", "--threads", "1"];
  expect(await runProgram([...words, "--json"])).toBe(0);
  const answer = JSON.parse(output.stdout) as { results: Record<string, unknown>[] };
  const number = expect.any(Number);
  expect(answer).toEqual({
    machine: {
      processor: expect.any(String),
      threads: 1,
      isa: expect.any(String),
      memoryBytes: number,
      system: expect.any(String),
      node: process.version,
    },
    limits: { read: number, float32: number, bfloat16: number, int8: number },
    results: expect.any(Array),
  });
  const rest = { dtype: "bfloat16", tokensPerSecond: number, stddev: number, limit: number, fractionOfLimit: number };
  const details = { operations: expect.arrayContaining([{ name: "experts", milliseconds: number }]), experts: expect.any(Object) };
  const prompt = { limitedBy: "bfloat16", cacheDtype: "bfloat16", bytes: null, readsOnly: null, ratioToEmptyContext: null, ...details };
  const generation = {
    limitedBy: "read",
    cacheDtype: "bfloat16",
    bytes: expect.objectContaining({ total: number }),
    readsOnly: number,
    ...details,
  };
  const rows = (depth: number, ratioToEmptyContext: unknown) => [
    { name: "pp16", batch: 1, depth, ...rest, ...prompt },
    { name: "tg2", batch: 1, depth, ...rest, ...generation, ratioToEmptyContext },
    { name: "tg2", batch: 2, depth, ...rest, ...generation, ratioToEmptyContext },
  ];
  expect(answer.results).toEqual([...rows(0, null), ...rows(8, number)]);
  output.stdout = "";
  expect(await runProgram(["bench", checkpoint, "-p", "16", "-n", "2", "-b", "2", "-d", "0,8", "-r", "1", "--threads", "1"])).toBe(0);
  expect(output.stdout.match(/a step takes [\d.]+ × the time of one with an empty context/g)).toHaveLength(1);
  expect(output.stdout).toMatch(/tg2 +2 +0 +[\d.]+ ± [\d.]+ +[\d.]+ % of the read bandwidth\n {2}a step reads/);
  expect(output.stdout).toMatch(/limits, medians: read [\d.]+ GB\/s; float32/);
});

test("a benchmark that is stopped tells what is done", async () => {
  const ended = runProgram(["bench", checkpoint, "-p", "16", "-n", "64,65,66", "-b", "1", "-r", "2"]);
  await until(() => output.stdout.includes("pp16"));
  process.emit("SIGINT");
  expect(await ended).toBe(4);
  expect(output.stdout).toContain("limits, medians");
  expect(output.stderr).toContain("stopped; the repetitions that were finished stand\n");
});

test("quantizes, tells how near the result is, and serves it", async () => {
  const out = join(dir, "q4");
  const text = join(dir, "text");
  await writeFile(text, "the quick brown fox jumps over the lazy dog\n".repeat(20));
  const words = ["quantize", checkpoint, "--to", "q4", "--out", out];
  expect(await runProgram([...words, "--dry-run"])).toBe(0);
  expect(output.stdout).toMatch(/^[\d.]+ K parameters, [\d.]+ [kM]B → [\d.]+ kB\n$/);
  output.stdout = "";
  expect(await runProgram([...words, "--calibrate", text, "--evaluate", text])).toBe(0);
  expect(output.stdout).toMatch(/q4: [\d.]+ kB in \d+ s\n/);
  expect(output.stdout).toMatch(
    /KL divergence +0\.\d+ nats a token\nsame most probable token +\d+\.\d %\nperplexity +[\d.]+, of the reference [\d.]+\n/,
  );
  expect(output.stdout).toMatch(/same expert, layer 0 +\d+\.\d %/);
  output.stdout = "";
  expect(await runProgram(["compare", checkpoint, out, "--text", text, "--json"])).toBe(0);
  expect(JSON.parse(output.stdout)).toMatchObject({ type: "compare-end", topAgreement: expect.any(Number) });
  expect(await runProgram(["complete", out, "the", "--max-tokens", "3", "--json"])).toBe(0);
  output.stdout = "";
  expect(await runProgram(["bench", out, "-p", "4", "-n", "1", "-b", "1", "-r", "1"])).toBe(0);
  expect(output.stdout).toMatch(
    /\nweights [\d.]+ kB mapped(?: \(\d+ % in huge pages\))?, cache [\d.]+ kB, step [\d.]+ MB; keys and values in bfloat16\n/,
  );
  expect(await runProgram(words)).toBe(2);
  expect(output.stderr).toContain("holds a checkpoint already (config.json)");
  expect(await runProgram(["quantize", out, "--to", "q8", "--out", join(dir, "twice")])).toBe(2);
  expect(output.stderr).toContain(
    `zaya-serve: ${out} holds int8 and int4 weights already; quantise the bfloat16 checkpoint it was made from\n`,
  );
});

test("says what to do with what an interrupted quantize left", async () => {
  const out = join(dir, "stopped");
  const text = join(dir, "few");
  await writeFile(text, "the quick brown fox jumps over the lazy dog\n".repeat(20));
  const words = ["quantize", checkpoint, "--to", "q8", "--out", out, "--evaluate", text];
  const begun = runProgram(words);
  await until(() => output.stdout.includes(" → "));
  process.emit("SIGINT");
  expect(await begun).toBe(4);
  expect(output.stderr).toContain(`zaya-serve: stopped; the same command continues ${out}\n`);
  expect(await runProgram([out, "--port", "0"])).toBe(2);
  expect(output.stderr).toContain(`${out} is what an interrupted zaya-serve quantize left; the same command continues it\n`);
  output.stdout = "";
  const continued = runProgram(words);
  await until(() => / in \d+ s/.test(output.stdout));
  expect(output.stdout).toContain("; what an interrupted run of the same job left is kept\n");
  process.emit("SIGINT");
  expect(await continued).toBe(4);
  expect(output.stderr).toContain(`zaya-serve: stopped; ${out} is whole: zaya-serve compare tells how near it is\n`);
  expect(await runProgram(["compare", checkpoint, out, "--text", text])).toBe(0);
});

test.each([
  { words: ["quantize", "x", "--to", "q2", "--out", "y"], line: "q8, q4, bf16" },
  { words: ["quantize", "x", "--to", "q4"], line: "required option '-o, --out <dir>'" },
  { words: ["quantize", "x", "--to", "q8", "--out", "y", "--head", "6"], line: "--attention and --head choose widths of q4" },
  { words: ["quantize", "x", "--to", "q8", "--out", "y", "--calibrate-tokens", "9"], line: "--calibrate-tokens needs --calibrate" },
  { words: ["quantize", "nowhere", "--to", "q8", "--out", "y"], line: "nowhere" },
  { words: ["quantize", "nowhere", "--to", "q8", "--out", "y", "--evaluate", "no-text"], line: "no-text: no such file" },
  { words: ["quantize", "nowhere", "--to", "q8", "--out", "y", "--evaluate", "/"], line: "/ is a folder; name a text file" },
  { words: ["quantize", "nowhere", "--to", "q4", "--out", "y", "--calibrate", "no-text"], line: "no-text: no such file" },
  { words: ["quantize", "x", "--to", "q8", "--out", "y", "--calibrate", "no-text"], line: "--calibrate is for q4" },
  { words: ["compare", "nowhere", "x", "--text", fileURLToPath(import.meta.url)], line: "nowhere" },
  { words: ["compare", "nowhere", "x", "--text", "no-text"], line: "no-text: no such file" },
  { words: ["bench", "nowhere"], line: "nowhere" },
  { words: ["bench", "x", "-d", "0,many"], line: "Expected a whole number" },
  { words: ["bench", "x", "-b", "1,1000000"], line: "Expected a whole number from 1 to 1024." },
  { words: ["complete", "nowhere", "x"], line: "nowhere" },
  { words: ["nowhere", "--port", "0"], line: "nowhere" },
  { words: ["serve", "x", "--port", "many"], line: "Expected a whole number from 0 to 65535." },
  { words: ["compelte", "x", "y"], line: "there is no command and no folder compelte; did you mean complete?" },
  { words: ["serv"], line: "there is no command and no folder serv; did you mean serve?" },
  { words: ["converse", "x"], line: "there is no command and no folder converse; the commands are serve, complete, chat, bench," },
  { words: ["serve", "x", "--max-waiting", "-1"], line: "Expected a whole number ≥ 0." },
  { words: ["serve", "x", "--max-batch-tokens", "0"], line: "Expected a whole number ≥ 1." },
  { words: ["serve", "x", "--host", ""], line: "Expected one line that is not empty." },
  { words: ["serve", "x", "--name", " "], line: "Expected one line that is not empty." },
  { words: ["serve", "x", "--cors", "http://localhost:3000/"], line: "Expected * or an origin without a path" },
  { words: ["serve", "x", "--cors", "a\nb"], line: "Expected * or an origin without a path" },
  { words: ["serve", "x", "--api-key", ""], line: "takes a key of printable ASCII characters" },
  { words: ["serve", "x", "--allow-host", "http://x"], line: "Expected a name without a port" },
  { words: ["serve", "x", "--allow-host", "x:80"], line: "Expected a name without a port" },
  { words: ["complete", "x", "--stop", "", "y"], line: "Expected a text that is not empty." },
  { words: ["serve", "x", "--dtype", "int4"], line: "float32, bfloat16" },
  { words: ["complete", "x", "--seed", "1.5"], line: "Expected a whole number." },
  { words: ["serve"], line: "missing required argument 'model'" },
  { words: ["serve", "x", "y"], line: "too many arguments for 'serve'" },
  { words: ["complete", "x", "--top-p", "2"], line: "Expected a number from 0 to 1." },
])("answers $words with one line and exit code 2", async ({ words, line }) => {
  expect(await runProgram(words)).toBe(2);
  expect(output.stderr).toContain(line);
  expect(output.stderr).not.toContain("    at ");
});

test.each([
  { from: "the command line", words: ["--api-key", "my secret key"], env: undefined },
  { from: "the environment", words: [], env: "my secret key" },
])("does not print a key of $from that it refuses", async ({ words, env }) => {
  vi.stubEnv("ZAYA_API_KEY", env);
  expect(await runProgram(["serve", "x", ...words])).toBe(2);
  vi.unstubAllEnvs();
  expect(output.stdout + output.stderr).toBe(
    "zaya-serve: --api-key, or ZAYA_API_KEY, takes a key of printable ASCII characters without spaces\n",
  );
});

test("says in one line that a text or a prompt is not UTF-8", async () => {
  const path = join(dir, "latin1");
  await writeFile(path, Buffer.from("gr\u00fcn", "latin1"));
  expect(await runProgram(["compare", checkpoint, checkpoint, "--text", path])).toBe(2);
  for (const option of ["--evaluate", "--calibrate"])
    expect(await runProgram(["quantize", checkpoint, "--to", "q4", "--out", join(dir, "none"), option, path])).toBe(2);
  const stdin = vi.spyOn(process, "stdin", "get").mockReturnValue(Readable.from([Buffer.from([0xfc])]) as typeof process.stdin);
  expect(await runProgram(["complete", checkpoint])).toBe(2);
  stdin.mockRestore();
  expect(output.stderr).toBe(`${`zaya-serve: ${path} is not UTF-8 text\n`.repeat(3)}zaya-serve: stdin is not UTF-8 text\n`);
});

test("says that the folder of the result holds a checkpoint before it looks for the model", async () => {
  expect(await runProgram(["quantize", "nowhere", "--to", "q8", "--out", checkpoint])).toBe(2);
  expect(output.stderr).toBe(`zaya-serve: ${checkpoint} holds a checkpoint already (config.json); choose another folder\n`);
});

test("says in one line that there can be no folder where it is to write", async () => {
  expect(await runProgram(["quantize", checkpoint, "--to", "q8", "--out", join(checkpoint, "config.json", "q8")])).toBe(2);
  expect(output.stderr).toMatch(/^zaya-serve: ENOTDIR: .*config\.json/m);
  expect(output.stderr).not.toContain("    at ");
});

test("says in one line that a file lies where a folder is to be", async () => {
  const out = join(dir, "file");
  await writeFile(out, "");
  expect(await runProgram(["quantize", checkpoint, "--to", "q8", "--out", out])).toBe(2);
  expect(output.stderr).toBe(`zaya-serve: ${out} is a file; choose another folder\n`);
});

test("says before quantizing that its result cannot be compared", async () => {
  const [bare, empty, text, out] = ["bare", "empty", "some", "unwritten"].map((name) => join(dir, name)) as [
    string,
    string,
    string,
    string,
  ];
  const config = presets["zaya-tiny"];
  await saveCheckpoint(bare, { config, tensors: initialise(config, 1) });
  await writeFile(empty, " \n");
  await writeFile(text, "the quick brown fox");
  const words = ["--to", "q8", "--out", out, "--evaluate"];
  expect(await runProgram(["quantize", checkpoint, ...words, empty])).toBe(2);
  expect(await runProgram(["quantize", bare, ...words, text])).toBe(2);
  expect(output.stderr).toBe(
    `zaya-serve: ${empty}: there is no text in it\nzaya-serve: --evaluate needs a tokenizer.json in ${bare}; put one there, or leave it out\n`,
  );
  await expect(stat(out)).rejects.toThrow("ENOENT");
});

test("says which option to change where it cannot listen", async () => {
  await using other = createServer();
  await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve));
  const { port } = other.address() as AddressInfo;
  expect(await runProgram(["serve", checkpoint, "--port", String(port)])).toBe(2);
  const line = `zaya-serve: port ${port} of 127.0.0.1 is taken; choose another --port, 0 takes a free one\n`;
  expect(output.stderr).toBe(line); // and no word of loading
  expect(await runProgram(["serve", checkpoint, "--port", "0", "--host", "192.0.2.1"])).toBe(2);
  expect(output.stderr.slice(line.length)).toMatch(/^zaya-serve: cannot listen on --host 192\.0\.2\.1: .*EADDRNOTAVAIL/m);
});

test("refuses a prompt that does not fit, by exit code 2", async () => {
  expect(await runProgram(["complete", checkpoint, "the fox ".repeat(40), "--context", "64"])).toBe(2);
  expect(output.stderr).toContain("the context is 64 tokens");
});

test("explains itself with examples", async () => {
  expect(await runProgram(["--help"])).toBe(0);
  expect(output.stdout).toContain("zaya-serve complete runs/first/latest");
  output.stdout = "";
  expect(await runProgram(["serve", "--help"])).toBe(0);
  expect(output.stdout).toContain("--max-sequences");
  expect(output.stdout).toContain("Examples:");
});
