// Speed of this checkout on this machine: a training step and generation at width 512, 8 blocks, 8 experts (preset zaya-512). The training figure is
// also given as a share of the bfloat16 peak that is measured beside it, since the machine's own speed may change from second to second.
//
//   npm run bench -- [--steps N] [--model PRESET] [--reference PYTHON] [--json]
//
// --reference names a Python with torch and transformers; the reference implementation then takes the same training step in the same run.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { declarations } from "./corpus.mjs";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const { values } = parseArgs({
  options: {
    steps: { type: "string", default: "16" },
    model: { type: "string", default: "zaya-512" },
    reference: { type: "string" },
    json: { type: "boolean", default: false },
  },
});
const folder = mkdtempSync(join(tmpdir(), "zaya-bench-"));

/** Runs a program and returns the JSON lines it printed. */
function program(name, args) {
  const cli = join(root, "apps", name, "dist", "cli.js");
  const result = spawnSync(process.execPath, [cli, ...args, "--json"], { cwd: folder, encoding: "utf8", maxBuffer: 1 << 28 });
  if (result.status !== 0) throw new Error(`zaya-${name} ${args.join(" ")}\n${result.stderr}`);
  return result.stdout
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
}

function median(numbers) {
  return [...numbers].sort((a, b) => a - b)[Math.floor(numbers.length / 2)];
}

try {
  const text = declarations(join(root, "node_modules"), { cap: 4e6 });
  writeFileSync(join(folder, "corpus.txt"), text.join("\n"));
  const batch = ["--vocab-size", "8192", "--context", "512", "--windows", "4"];
  const limits = ["--steps", values.steps, "--evaluate-every", "1000000", "--evaluate-tokens", "1", "--save-every", "1000000"];
  const events = program("train", ["train", "corpus.txt", "--model", values.model, "--out", "run", ...batch, ...limits]);
  const steps = events.filter((event) => event.type === "step-end").slice(2); // without the first, which touch memory for the first time
  const prompt = text.join("\n").slice(0, 1500);
  const [answer] = program("serve", ["complete", "run/latest", prompt, "--max-tokens", "128", "--temperature", "0"]);
  const figures = {
    model: values.model,
    trainingTokensPerSecond: median(steps.map((step) => step.tokensPerSecond)),
    shareOfMeasuredPeak: median(steps.map((step) => step.utilisation)),
    maxMeanExpertLoad: steps.at(-1).maxMeanExpertLoad,
    promptTokensPerSecond: answer.usage.promptTokens / answer.seconds.prompt,
    generatedTokensPerSecond: (answer.usage.completionTokens - 1) / answer.seconds.generation,
  };
  if (values.reference) {
    const config = JSON.parse(readFileSync(join(folder, "run", "latest", "config.json"), "utf8"));
    const input = JSON.stringify({ config, context: 512, windows: 4, threads: availableParallelism(), steps: 5 });
    const peer = spawnSync(values.reference, [join(root, "apps", "train", "reference_step.py")], { encoding: "utf8", input });
    if (peer.status !== 0) throw new Error(`${values.reference}\n${peer.stderr}`);
    figures.referenceTokensPerSecond = Number(peer.stdout.trim().split("\n").at(-1));
  }
  if (values.json) console.log(JSON.stringify(figures));
  else {
    console.log(`${values.model}, bfloat16, 4 × 512 tokens a step, AdamW`);
    console.log(
      `training    ${figures.trainingTokensPerSecond.toFixed(0)} tokens/s, ${(100 * figures.shareOfMeasuredPeak).toFixed(0)} % of measured peak`,
    );
    if (figures.referenceTokensPerSecond) {
      const ratio = figures.trainingTokensPerSecond / figures.referenceTokensPerSecond;
      console.log(
        `            ${ratio.toFixed(2)} × the reference in bf16 (torch, ${figures.referenceTokensPerSecond.toFixed(0)} tokens/s)`,
      );
    }
    console.log(`            max/mean expert load ${figures.maxMeanExpertLoad?.toFixed(2) ?? "–"}`);
    console.log(`prompt      ${figures.promptTokensPerSecond.toFixed(0)} tokens/s (${answer.usage.promptTokens} tokens)`);
    console.log(`generation  ${figures.generatedTokensPerSecond.toFixed(0)} tokens/s (one request)`);
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
