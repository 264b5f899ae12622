// The kernel table: every kernel as operations and bytes a second, beside the machine's peaks and read bandwidth as they were measured before and after each
// run of it. A kernel that streams its weights does so from memory: it rotates over more than the caches hold.
import { createLimitMeter, describeMachine, median, openDevice } from "@zaya/kernels";
import { badInput } from "./bad_input.mjs";
import { groups } from "./cases.mjs";
import { awaitedRun } from "./overhead.mjs";
import { formatTable } from "./table.mjs";

export const options = {
  filter: { type: "string" },
  repetitions: { type: "string", default: "7" },
  threads: { type: "string" },
};

export const help = `npm run bench [-- kernels] [--filter TEXT] [--repetitions N] [--threads N] [--json]

Measures the kernels: matrix products, attention, router, norms, convolutions, optimizers, and one awaited run of a one-element operation.
  --filter TEXT      only kernels in whose line "group name type" this regular expression is found
  --repetitions N    runs of each, of which the median counts (default 7)
  --json             one JSON object: { machine, limits, results, awaitedRunMicroseconds }`;

export async function run({ filter, repetitions, threads, json }) {
  const wanted = parseFilter(filter);
  const device = await openDevice("cpu", threads === undefined ? {} : { threads });
  const meter = createLimitMeter(device);
  const machine = describeMachine(device);
  const print = (text) => json || console.log(text);
  print(`${machine.processor}, ${machine.threads} threads, ${machine.isa}`);
  const results = [];
  for (const group of groups) {
    const cases = group.cases.filter(({ name, dtype }) => wanted.test(`${group.name} ${name} ${dtype}`));
    if (cases.length === 0) continue;
    const rows = await measureGroup(device, meter, group, cases, repetitions);
    results.push(...rows);
    print(`\n${group.name}\n${formatTable(rows)}`);
  }
  const awaitedRunMicroseconds = wanted.test("awaited run") ? await awaitedRun(device) : null;
  if (json) console.log(JSON.stringify({ machine, limits: meter.medians(), results, awaitedRunMicroseconds }));
  else if (awaitedRunMicroseconds !== null)
    print(`\none awaited run of a one-element operation: ${awaitedRunMicroseconds.toFixed(0)} µs (median)`);
  await device[Symbol.asyncDispose]();
  if (results.length === 0 && awaitedRunMicroseconds === null) throw badInput(`--filter: no kernel's line holds ${filter}`);
}

function parseFilter(filter = "") {
  try {
    return new RegExp(filter);
  } catch (error) {
    throw badInput(`--filter: ${error.message}`);
  }
}

async function measureGroup(device, meter, group, cases, repetitions) {
  const store = device.createStore();
  const prepared = await group.prepare(store, cases, device);
  const rows = [];
  for (const each of cases) {
    if (process.stderr.isTTY) process.stderr.write(`\r\u001b[K${group.name}, ${each.name}`);
    const result = await measure(device, store, meter, each, group.build(prepared, each), repetitions);
    rows.push({ group: group.name, name: each.name, dtype: each.dtype, ...result });
  }
  if (process.stderr.isTTY) process.stderr.write("\r\u001b[K");
  await store[Symbol.asyncDispose]();
  return rows;
}

/** Runs a graph again and again; the time is that of the operations `timed`, divided by `count`: how often the graph holds the kernel. */
async function measure(device, store, meter, { peak }, { graph, inputs, timed, count, flops, bytes }, repetitions) {
  const executable = device.compile(graph, store);
  const wanted = new Set(timed);
  const samples = [];
  for (let repetition = 0; repetition <= repetitions; repetition++) {
    const before = [await meter.measure(peak), await meter.measure("read")];
    const { nanoseconds } = await executable.profile({ inputs });
    const after = [await meter.measure("read"), await meter.measure(peak)].reverse();
    const seconds = nanoseconds.reduce((sum, each, i) => sum + (wanted.has(executable.steps[i]) ? each : 0), 0) / 1e9 / count;
    const [products, read] = before.map((value, i) => Math.max(value, after[i]));
    // The first run touches memory for the first time.
    if (repetition > 0) samples.push({ seconds, ofPeak: flops / seconds / 1e9 / products, ofRead: bytes / seconds / 1e9 / read });
  }
  await executable[Symbol.asyncDispose]();
  const seconds = samples.map((sample) => sample.seconds).sort((a, b) => a - b);
  return {
    seconds: median(seconds),
    spread: [seconds[0], seconds.at(-1)],
    flops,
    bytes,
    peak,
    fractionOfPeak: median(samples.map((sample) => sample.ofPeak)),
    fractionOfRead: median(samples.map((sample) => sample.ofRead)),
  };
}
