// Peers in one run: this checkout on a checkpoint of ZAYA1-8B's shape, llama.cpp on random weights of OLMoE's and Qwen3-4B's, transformers + torch on
// ZAYA1-8B's. Different models cannot be compared by tokens a second; what is compared is the share of the machine's limit that each reaches, measured
// before and after every prompt and every few tokens.
import { spawn } from "node:child_process";
import { existsSync, mkdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { createLimitMeter, describeMachine, mean, median, openDevice, shareOfLimit, standardDeviation } from "@zaya/kernels";
import { configJson, describe, presets } from "@zaya/model";
import { bench } from "@zaya/serve";
import { badInput } from "./bad_input.mjs";
import { ggufShapes, ggufTypes, ggufWork, writeGguf } from "./gguf.mjs";

const here = dirname(fileURLToPath(import.meta.url));

export const options = {
  model: { type: "string" },
  llama: { type: "string" },
  gguf: { type: "string", default: join(tmpdir(), "zaya-peers") },
  shapes: { type: "string", default: Object.keys(ggufShapes).join(",") },
  type: { type: "string", default: "Q4_0" },
  reference: { type: "string" },
  repetitions: { type: "string", default: "5" },
  threads: { type: "string" },
};

export const help = `npm run bench -- peers [--model DIR] [--llama DIR] [--reference PYTHON] [--repetitions N] [--threads N] [--json]

Measures pp512 and tg64 of whichever are given, as shares of the machine's int8 or bfloat16 peak and of its read bandwidth.
  --model DIR        a checkpoint, as zaya-serve bench takes it
  --llama DIR        a folder in which node-llama-cpp is installed:
                     npm i --ignore-scripts --omit=optional node-llama-cpp @node-llama-cpp/linux-x64
  --shapes A,B       shapes of its models (default ${Object.keys(ggufShapes).join(",")})
  --type TYPE        Q4_0 (default) or Q8_0
  --gguf DIR         where the random models are kept, up to 7 GB each (default: in the system's temporary folder)
  --reference PYTHON a Python with torch and transformers; it runs 2 and 4 of ZAYA1-8B's 40 layers, and the time of all is extrapolated`;

const promptTokens = 512;
const generatedTokens = 64;
const sliceTokens = 8;

export async function run({ model, llama, gguf, shapes, type, reference, repetitions, threads, json }) {
  const wanted = shapes.split(",");
  for (const shape of wanted)
    if (!(shape in ggufShapes)) throw badInput(`--shapes: there is no ${shape}; there are ${Object.keys(ggufShapes).join(", ")}`);
  if (!ggufTypes.includes(type)) throw badInput(`--type: there is no ${type}; there are ${ggufTypes.join(", ")}`);
  if (llama && !existsSync(join(llama, "node_modules", "node-llama-cpp")))
    throw badInput(`--llama ${llama}: node-llama-cpp is not installed there`);
  if (!model && !llama && !reference) throw badInput("give at least one of --model, --llama and --reference");
  const device = await openDevice("cpu", threads === undefined ? {} : { threads });
  const meter = createLimitMeter(device);
  const results = [];
  const add = (result) => {
    results.push(result);
    if (!json) console.log(formatResult(result));
  };
  if (model) for (const result of await measureOurs(model, repetitions, device.threads)) add(result);
  for (const shape of llama ? wanted : [])
    for (const result of await measureLlama({ llama, gguf, shape, type, count: repetitions, meter, threads: device.threads })) add(result);
  if (reference)
    for (const result of await measureReference({ reference, count: repetitions, meter, threads: device.threads })) add(result);
  if (json) console.log(JSON.stringify({ machine: describeMachine(device), limits: meter.medians(), results }));
  await device[Symbol.asyncDispose]();
}

async function measureOurs(model, repetitions, threads) {
  const results = [];
  const tests = { prompt: [promptTokens], generate: [generatedTokens], batches: [1], repetitions, threads };
  for await (const event of bench(model, tests)) {
    if (event.type === "result")
      results.push({ program: "zaya-serve", model: "ZAYA1-8B's shape", limitedBy: event.details.limitedBy, ...event.result });
  }
  return results;
}

async function measureLlama({ llama, gguf, shape, type, count, meter, threads }) {
  mkdirSync(gguf, { recursive: true });
  const path = join(gguf, `${shape}-${type}.gguf`);
  if (!existsSync(path)) {
    process.stderr.write(`writing ${path} …\n`);
    writeGguf(path, shape, type);
  }
  const work = ggufWork(ggufShapes[shape], type);
  const peer = await startPeer(process.execPath, [join(here, "llama_peer.mjs"), llama, path, String(threads)]);
  const about = { program: "llama.cpp", model: `${shape}'s shape`, dtype: type, batch: 1, depth: 0 };
  await peer.ask({ kind: "pp", tokens: promptTokens });
  await peer.ask({ kind: "tg", tokens: sliceTokens, restart: true });
  const prompt = await measureTest(meter, count, "int8", [promptTokens], async (tokens) => ({
    seconds: (await peer.ask({ kind: "pp", tokens })).seconds,
    work: work.flopsPerToken * tokens + work.headFlops,
  }));
  const slices = new Array(generatedTokens / sliceTokens).fill(sliceTokens);
  const generation = await measureTest(meter, count, "read", slices, async (tokens, first) => ({
    seconds: (await peer.ask({ kind: "tg", tokens, restart: first })).seconds,
    work: work.bytesPerToken * tokens,
  }));
  peer.stop();
  return [
    { ...about, name: `pp${promptTokens}`, limitedBy: "int8", ...prompt },
    { ...about, name: `tg${generatedTokens}`, limitedBy: "read", ...generation },
  ];
}

/** The time of all layers from that of the first 4 and the first 2. */
async function measureReference({ reference, count, meter, threads }) {
  const preset = presets["zaya1-8b"];
  const [few, some, all] = [2, 4, preset.numLayers];
  const config = { ...preset, numLayers: some, layerTypes: preset.layerTypes.slice(0, some) };
  const peer = await startPeer(reference, [join(here, "reference_peer.py")], { config: configJson(config), threads });
  const ask = async (kind, tokens, restart) => {
    const times = [];
    for (const layers of [few, some]) times.push((await peer.ask({ kind, tokens, restart: restart || kind === "tg", layers })).seconds);
    const seconds = times[1] + ((all - some) * (times[1] - times[0])) / (some - few);
    return seconds;
  };
  const about = {
    program: "transformers",
    model: `ZAYA1-8B's shape, from ${some} of ${all} layers`,
    dtype: "bfloat16",
    batch: 1,
    depth: 0,
  };
  const { flops, decodeBytes } = describe(preset, { context: promptTokens });
  await ask("pp", promptTokens, true);
  await ask("tg", sliceTokens, true);
  const prompt = await measureTest(meter, count, "bfloat16", [promptTokens], async (tokens) => ({
    seconds: await ask("pp", tokens, true),
    work: (flops.prefill.blocks + flops.prefill.attention) * tokens + flops.prefill.head,
  }));
  const generation = await measureTest(meter, count, "read", [sliceTokens, sliceTokens], async (tokens) => ({
    seconds: await ask("tg", tokens, true),
    work: (decodeBytes.total - decodeBytes.keysAndValues) * tokens,
  }));
  peer.stop();
  return [
    { ...about, name: `pp${promptTokens}`, limitedBy: "bfloat16", ...prompt },
    { ...about, name: `tg${2 * sliceTokens}`, limitedBy: "read", ...generation },
  ];
}

/** Mean and deviation of so many repetitions of slices; each slice lies between two measurements of the limit (shareOfLimit). */
async function measureTest(meter, repetitions, limitedBy, slices, runSlice) {
  const speeds = [];
  const fractions = [];
  for (let repetition = 0; repetition < repetitions; repetition++) {
    const measured = [];
    let before = await meter.measure(limitedBy);
    for (const [i, tokens] of slices.entries()) {
      const { seconds, work } = await runSlice(tokens, i === 0);
      const after = await meter.measure(limitedBy);
      measured.push({ seconds, work: work / 1e9, before, after });
      before = after;
    }
    speeds.push(slices.reduce((sum, tokens) => sum + tokens, 0) / measured.reduce((sum, { seconds }) => sum + seconds, 0));
    fractions.push(shareOfLimit(measured));
  }
  const tokensPerSecond = mean(speeds);
  const fractionOfLimit = median(fractions);
  return { tokensPerSecond, stddev: standardDeviation(speeds), limit: tokensPerSecond / fractionOfLimit, fractionOfLimit };
}

/** A program that answers a line of JSON with a line of JSON; `first` is sent to begin with. */
async function startPeer(command, args, first) {
  const child = spawn(command, args, { stdio: ["pipe", "pipe", "pipe"] });
  let errors = "";
  child.stderr.setEncoding("utf8").on("data", (chunk) => {
    errors = (errors + chunk).slice(-2000);
  });
  child.stdin.on("error", () => {}); // the answer that does not come tells
  const spawned = new Promise((resolve) => child.once("error", (error) => resolve(error)).once("spawn", () => resolve(null)));
  const failure = await spawned;
  if (failure) throw badInput(`${command}: ${failure.message}`);
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const answer = async () => {
    for (;;) {
      const { value, done } = await lines.next();
      if (done) throw badInput(`${command} ended: ${errors.trim().split("\n").at(-1)}`);
      if (value.startsWith("{")) return JSON.parse(value);
    }
  };
  if (first) child.stdin.write(`${JSON.stringify(first)}\n`);
  await answer();
  return {
    ask: (request) => {
      child.stdin.write(`${JSON.stringify(request)}\n`);
      return answer();
    },
    stop: () => child.kill(),
  };
}

function formatResult({ program, model, name, dtype, tokensPerSecond, stddev, limitedBy, fractionOfLimit }) {
  const speed = `${tokensPerSecond.toFixed(1)} ± ${stddev.toFixed(1)} tokens/s`;
  const limit = limitedBy === "read" ? "the read bandwidth" : `the ${limitedBy} peak`;
  return `${program.padEnd(13)}${name.padEnd(7)}${speed.padEnd(26)}${(100 * fractionOfLimit).toFixed(0).padStart(3)} % of ${limit}   ${model}, ${dtype}`;
}
