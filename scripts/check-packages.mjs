// Checks the packed tarballs as a user meets them: metadata (publint), types (attw), an install without scripts in an empty folder,
// imports on Node 20 and 22 with nothing happening, and each package's count, size and import time against scripts/budget.json.
//
//   node scripts/check-packages.mjs TARBALLS INSTALL [--results FILE]
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, realpathSync, statSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { publint } from "publint";
import { formatMessage } from "publint/utils";
import { check, finish } from "./checks.mjs";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const tarballs = resolve(process.argv[2]);
const install = resolve(process.argv[3]);
const budget = JSON.parse(readFileSync(join(root, "scripts", "budget.json"), "utf8"));
const files = readdirSync(tarballs, { recursive: true }).filter((file) => file.endsWith(".tgz"));
const manifests = Object.fromEntries(
  files.map((file) => [file, JSON.parse(run("tar", ["-xzOf", join(tarballs, file), "package/package.json"]))]),
);
const libraries = Object.values(manifests).filter((manifest) => manifest.exports);

function run(command, args, options = {}) {
  const result = spawnSync(command, args, { encoding: "utf8", cwd: root, maxBuffer: 1 << 26, ...options });
  if (result.status !== 0) throw new Error(`${command} ${args.join(" ")}\n${result.error?.message ?? result.stdout + result.stderr}`);
  return result.stdout;
}

/** The program `node` of a major version: this one, or the one npm has. */
function nodeOf(major) {
  if (process.versions.node.startsWith(`${major}.`)) return process.execPath;
  const folder = `${install}-node${major}`;
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, "package.json"), "{}");
  // The package `node` fetches this one in its install script; scripts are not run here, so it is named itself.
  run("npm", ["install", "--ignore-scripts", "--no-audit", "--no-fund", `node-${process.platform}-${process.arch}@${major}`], {
    cwd: folder,
  });
  return join(folder, "node_modules", `node-${process.platform}-${process.arch}`, "bin", "node");
}

/** Folders of a package and of everything it depends on, as Node would find them. */
function closure(name, from, found = new Set()) {
  let folder = from;
  while (!existsSync(join(folder, "node_modules", name, "package.json"))) {
    if (folder === dirname(folder)) return found; // an optional dependency for another platform
    folder = dirname(folder);
  }
  const path = realpathSync(join(folder, "node_modules", name));
  if (found.has(path)) return found;
  found.add(path);
  const { dependencies = {}, optionalDependencies = {} } = JSON.parse(readFileSync(join(path, "package.json"), "utf8"));
  for (const dependency of Object.keys({ ...dependencies, ...optionalDependencies })) closure(dependency, path, found);
  return found;
}

function bytesOf(folder) {
  return readdirSync(folder, { withFileTypes: true }).reduce((sum, entry) => {
    if (entry.name === "node_modules") return sum;
    const path = join(folder, entry.name);
    return sum + (entry.isDirectory() ? bytesOf(path) : statSync(path).size);
  }, 0);
}

/** What importing did, beside taking time: it may load no addon, keep nothing alive, listen to no signal and print nothing. */
const probe = `
const before = process.eventNames().length;
const begin = performance.now();
const module = await import(process.argv[1]);
const milliseconds = performance.now() - begin;
const effects = [
  ...process.report.getReport().sharedObjects.filter((path) => path.endsWith("zaya.node")),
  ...process.getActiveResourcesInfo().filter((name) => !/^(TTY|Pipe|FSReq|CloseReq)/.test(name)),
  ...(process.eventNames().length > before ? ["listeners: " + process.eventNames().map(String).join(" ")] : []),
];
console.log(JSON.stringify({ milliseconds, effects, names: Object.keys(module).length }));`;

for (const file of files) {
  const { name, exports } = manifests[file];
  await check(`publint ${name}`, async () => {
    const tarball = new Uint8Array(readFileSync(join(tarballs, file))).buffer;
    const { messages, pkg } = await publint({ pack: { tarball }, strict: true });
    if (messages.length > 0) throw new Error(messages.map((message) => formatMessage(message, pkg)).join("\n"));
  });
  if (!exports) continue;
  await check(`types of ${name}`, () => {
    run("npx", ["attw", "--profile", "esm-only", "--format", "ascii", "--no-emoji", join(tarballs, file)]);
  });
}

await check("installs without scripts in an empty folder", () => {
  mkdirSync(install, { recursive: true });
  writeFileSync(join(install, "package.json"), '{ "private": true, "type": "module" }');
  const withoutCompiler = { ...process.env, CC: "false", CXX: "false" };
  run("npm", ["install", "--ignore-scripts", "--no-audit", "--no-fund", ...files.map((file) => join(tarballs, file))], {
    cwd: install,
    env: withoutCompiler,
  });
});

for (const major of [20, 22]) {
  let node = "";
  await check(`Node ${major}`, () => {
    node = nodeOf(major);
    return run(node, ["--version"]).trim();
  });
  if (node === "") continue;
  for (const { name, exports, version } of libraries) {
    const entries = Object.keys(exports).filter((entry) => !entry.endsWith(".json"));
    for (const entry of entries) {
      const specifier = join(name, entry);
      await check(`import ${specifier} on Node ${major}`, () => {
        const probes = Array.from({ length: 3 }, () =>
          JSON.parse(run(node, ["--input-type=module", "-e", probe, specifier], { cwd: install })),
        );
        const { effects, names } = probes[0];
        if (effects.length > 0) throw new Error(`importing has an effect: ${effects.join(", ")}`);
        const milliseconds = Math.round(Math.min(...probes.map((one) => one.milliseconds)));
        run(node, ["-e", `require(${JSON.stringify(specifier)})`], { cwd: install, env: { ...process.env, NODE_NO_WARNINGS: "1" } });
        const limit = budget[name]?.importMilliseconds;
        if (entry === "." && !(milliseconds <= limit)) throw new Error(`takes ${milliseconds} ms, the budget is ${limit} ms`);
        return `${version}, ${names} names, ${milliseconds} ms`;
      });
    }
  }
  await check(`the addon runs on Node ${major}`, () => {
    writeFileSync(
      join(install, "device.mjs"),
      'import { openDevice } from "@zaya/kernels"; console.log((await openDevice("cpu")).isa); process.exit();',
    );
    return run(node, ["device.mjs"], { cwd: install }).trim();
  });
  for (const { name, bin } of Object.values(manifests).filter((manifest) => manifest.bin)) {
    await check(`${name} --help on Node ${major}`, () => {
      run(node, [join(install, "node_modules", name, Object.values(bin)[0]), "--help"], { cwd: install });
    });
  }
}

for (const { name } of Object.values(manifests).filter((manifest) => manifest.exports || manifest.bin)) {
  await check(`size of ${name}`, () => {
    const folders = [...closure(name, install)];
    const megabytes = folders.reduce((sum, folder) => sum + bytesOf(folder), 0) / 1e6;
    const limit = budget[name];
    const measured = `${folders.length} packages (budget ${limit?.packages}), ${megabytes.toFixed(1)} MB (budget ${limit?.megabytes})`;
    if (!(folders.length <= limit?.packages && megabytes <= limit?.megabytes)) throw new Error(measured);
    return measured;
  });
}
finish();
