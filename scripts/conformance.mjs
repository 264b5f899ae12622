// Makes cases from the reference implementation (PyTorch and transformers) and compares forward, gradients, generation, training and the server with them.
// Not part of continuous integration: it needs a Python with torch and the program that makes a case, which is called as
//   PYTHON MAKE_CASE --seed N --preset NAME --out DIR
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const help = `npm run conformance -- --maker PROGRAM [--python PYTHON] [--seeds N,…] [--presets NAME,…] [--cases DIR]

Makes cases from the reference implementation and compares forward, gradients, generation, training and the server with them.
  --maker PROGRAM   what makes a case; called as PYTHON PROGRAM --seed N --preset NAME --out DIR
  --python PYTHON   a Python with torch and transformers (default: python3)
  --seeds N,…       default: 11,12,13
  --presets NAME,…  default: tiny,sliding,wide
  --cases DIR       where cases are kept and looked for (default: a new temporary folder)`;
const root = dirname(dirname(fileURLToPath(import.meta.url)));
function fail(message) {
  console.error(message);
  process.exit(2);
}

function parseOptions() {
  try {
    return parseArgs({
      options: {
        maker: { type: "string" },
        python: { type: "string", default: "python3" },
        seeds: { type: "string", default: "11,12,13" },
        presets: { type: "string", default: "tiny,sliding,wide" },
        cases: { type: "string" },
        help: { type: "boolean", short: "h", default: false },
      },
    }).values;
  } catch (error) {
    return fail(error.message);
  }
}

const values = parseOptions();
if (values.help) {
  console.log(help);
  process.exit(0);
}
if (!values.maker || !existsSync(values.maker))
  fail("--maker: name the program that makes a case from the reference implementation (--help tells more)");
// A name alone is looked for on the PATH.
const python = values.python.includes("/") ? resolve(values.python) : values.python;
const folder = values.cases ? resolve(values.cases) : mkdtempSync(join(tmpdir(), "zaya-cases-"));
mkdirSync(folder, { recursive: true });

function run(command, args, env = {}) {
  const { status, error } = spawnSync(command, args, {
    cwd: root,
    stdio: ["ignore", "inherit", "inherit"],
    env: { ...process.env, ...env },
  });
  if (status === 0) return;
  console.error(error?.message ?? `failed: ${command} ${args.join(" ")}`);
  process.exit(1);
}

for (const preset of values.presets.split(",")) {
  for (const seed of values.seeds.split(",")) {
    const out = join(folder, `${preset}-${seed}`);
    if (existsSync(join(out, "expected.safetensors"))) continue;
    console.log(`making ${preset}, seed ${seed}`);
    run(python, [resolve(values.maker), "--seed", seed, "--preset", preset, "--out", out]);
  }
}
console.log(`cases: ${folder}`);
run("npx", ["vitest", "run", "conformance", "packages/train/src/step.test.ts"], { ZAYA_CASES: folder });
