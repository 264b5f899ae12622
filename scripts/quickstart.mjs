// From an empty folder to a ZAYA that was trained and is served: text, tokenizer, training, bits a byte beside xz, a completion, a server.
//
//   npm run quickstart -- [--seconds N] [--data FILE…] [--no-serve]
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { declarations, split, textsOf } from "./corpus.mjs";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const folder = join(root, "runs", "quickstart");
const usage = `npm run quickstart -- [--seconds N] [--data FILE…] [--no-serve]

  --seconds N     training time (default 120)
  --data FILE…    train on these text or .jsonl files instead of the TypeScript declarations under node_modules
  --no-serve      end after the completion`;

function fail(message) {
  console.error(message);
  process.exit(2);
}

function parseOptions() {
  try {
    const { values, positionals } = parseArgs({
      allowPositionals: true,
      options: {
        seconds: { type: "string", default: "120" },
        data: { type: "string", multiple: true, default: [] },
        "no-serve": { type: "boolean", default: false },
        help: { type: "boolean", short: "h", default: false },
      },
    });
    const data = [...values.data, ...positionals]; // --data a b c
    const seconds = Number(values.seconds);
    if (!(seconds > 0)) fail(`--seconds: expected a number above 0, received ${values.seconds}`);
    if (positionals.length > 0 && values.data.length === 0) fail(`unexpected ${positionals.join(" ")}\n\n${usage}`);
    return { seconds, data, serve: !values["no-serve"], help: values.help };
  } catch (error) {
    return fail(`${error.message}\n\n${usage}`);
  }
}

function readData(files) {
  try {
    return textsOf(files);
  } catch (error) {
    return fail(`--data: ${error.message}`);
  }
}

/** Runs one of the two programs; ends this one when it fails. */
function program(name, args, { capture = false } = {}) {
  const cli = join(root, "apps", name, "dist", "cli.js");
  const result = spawnSync(process.execPath, [cli, ...args], {
    cwd: root,
    stdio: ["ignore", capture ? "pipe" : "inherit", "inherit"],
    encoding: "utf8",
  });
  if (result.status !== 0) process.exit(result.status ?? 1);
  return result.stdout;
}

/** A file of the folder, or null where there is none. */
function read(name) {
  return existsSync(join(folder, name)) ? readFileSync(join(folder, name), "utf8") : null;
}

function heading(text) {
  console.log(`\n── ${text}`);
}

function kilobytes(texts) {
  return `${Math.round(texts.reduce((sum, text) => sum + Buffer.byteLength(text), 0) / 1000)} kB`;
}

async function freePort(wanted) {
  return await new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(0));
    server.listen(wanted, "127.0.0.1", () => server.close(() => resolve(wanted)));
  });
}

const { seconds, data, serve, help } = parseOptions();
if (help) {
  console.log(usage);
  process.exit(0);
}
const began = performance.now();
const show = (name) => relative(root, join(folder, name));

const { training, heldOut } = split(data.length > 0 ? readData(data) : declarations(join(root, "node_modules")));
if (![training, heldOut].every((texts) => texts.some((text) => text.trim() !== ""))) fail("--data: that is too little text; give more");
heading(`text: ${data.length > 0 ? data.join(", ") : "the TypeScript declarations under node_modules"}`);
console.log(`${training.length} documents, ${kilobytes(training)}, to train on; ${heldOut.length}, ${kilobytes(heldOut)}, held out`);
const records = (texts) => texts.map((text) => `${JSON.stringify({ text })}\n`).join("");
// A run that was stopped goes on where it learns the same for as long; another one before goes, now that there is something to train on.
const goesOn = read("training.jsonl") === records(training) && JSON.parse(read("run/run.json") ?? "null")?.limits.seconds === seconds;
if (!goesOn) {
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, "training.jsonl"), records(training));
  writeFileSync(join(folder, "training.txt"), training.join("\n"));
  writeFileSync(join(folder, "held-out.jsonl"), records(heldOut));
  writeFileSync(join(folder, "held-out.txt"), heldOut.join(""));

  heading("tokenizer");
  program("train", ["tokenizer", "train", show("training.txt"), "--out", show("tokenizer"), "--vocab-size", "4096", "--max-bytes", "4M"]);
}

heading(goesOn ? `the training of before, ${seconds} s in all` : `training, ${seconds} s`);
program("train", [
  "train",
  "--resume",
  show("training.jsonl"),
  "--model",
  "zaya-small",
  "--tokenizer",
  show("tokenizer"),
  "--out",
  show("run"),
  "--seconds",
  String(seconds),
  "--save-every",
  "200",
  "--held-out",
  "0.01",
]);

heading("held-out text");
const checkpoint = join(folder, "run", "latest");
const evaluation = JSON.parse(program("train", ["eval", relative(root, checkpoint), show("held-out.jsonl"), "--json"], { capture: true }));
const packed = spawnSync("xz", ["-9", "--stdout", join(folder, "held-out.txt")], { maxBuffer: 1 << 28 });
const heldOutBytes = Buffer.byteLength(heldOut.join(""));
console.log(`this model   ${evaluation.bitsPerByte.toFixed(3)} bits a byte (${evaluation.loss.toFixed(3)} nats a token)`);
if (packed.status === 0) console.log(`xz -9        ${((8 * packed.stdout.length) / heldOutBytes).toFixed(3)} bits a byte`);

heading("a completion");
const prompt = data.length > 0 ? (heldOut[0] ?? "").slice(0, 60) : "export interface Options {\n  /**";
process.stdout.write(prompt);
process.stdout.write(
  program("serve", ["complete", relative(root, checkpoint), prompt, "--max-tokens", "100", "--temperature", "0.7", "--seed", "1"], {
    capture: true,
  }),
);

console.log(
  `\ndone in ${Math.round((performance.now() - began) / 1000)} s. The checkpoint is ${relative(root, checkpoint)}; loss curve: ${show("run/loss.svg")}`,
);
if (serve) {
  heading("server");
  program("serve", ["serve", relative(root, checkpoint), "--name", "quickstart", "--port", String(await freePort(8000))]);
} else console.log(`serve it: npx zaya-serve ${relative(root, checkpoint)}`);
