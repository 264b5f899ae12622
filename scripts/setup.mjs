// Makes a fresh clone ready, with plain Node: system packages, node_modules when they are not what package-lock.json says,
// the native addon and the TypeScript build. Exit code 2 when a person has to install something first.
//
//   node scripts/setup.mjs [--no-build]
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const windows = process.platform === "win32";

function fail(message, code = 2) {
  console.error(message);
  process.exit(code);
}

function run(command, args, env = {}) {
  const result = spawnSync(command, args, {
    cwd: root,
    stdio: ["ignore", "inherit", "inherit"],
    env: { ...process.env, ...env },
    shell: windows,
  });
  if (result.status !== 0) fail(`failed: ${command} ${args.join(" ")}`, 1);
}

function output(command, args) {
  const result = spawnSync(command, args, { encoding: "utf8" });
  return result.status === 0 ? result.stdout.trim() : null;
}

function checkNode() {
  const [major, minor] = process.versions.node.split(".").map(Number);
  if (major > 20 || (major === 20 && minor >= 19)) return;
  fail(`Node 20.19 or newer is needed, this is ${process.versions.node}: https://nodejs.org/en/download`);
}

/** Debian packages that are missing: compiler, CMake, make, and xz with which the quickstart compares. */
function missingPackages() {
  const missing = [];
  const compiler = output("g++", ["-dumpversion"]);
  if (compiler === null) missing.push("g++");
  else if (Number.parseInt(compiler, 10) < 12) fail(`g++ 12 or newer is needed, this is ${compiler}`);
  if (output("cmake", ["--version"]) === null) missing.push("cmake");
  if (output("make", ["--version"]) === null && output("ninja", ["--version"]) === null) missing.push("make");
  if (output("xz", ["--version"]) === null) missing.push("xz-utils");
  return missing;
}

function installSystemPackages() {
  const missing = missingPackages();
  if (missing.length === 0) return;
  const line = `apt-get update && apt-get install -y --no-install-recommends ${missing.join(" ")}`;
  const isRoot = process.getuid?.() === 0;
  if (!isRoot || output("apt-get", ["--version"]) === null)
    fail(`These are needed first: ${missing.join(", ")}. On Debian:\n\n  ${isRoot ? "" : "sudo sh -c '"}${line}${isRoot ? "" : "'"}\n`);
  console.log(`installing system packages: ${missing.join(" ")}`);
  const quiet = { DEBIAN_FRONTEND: "noninteractive" };
  run("apt-get", ["update", "-qq"], quiet);
  run("apt-get", ["install", "-y", "-qq", "--no-install-recommends", ...missing], quiet);
}

/** Whether node_modules holds what package-lock.json says, by the list that npm leaves there. */
function modulesAreCurrent() {
  const installed = join(root, "node_modules", ".package-lock.json");
  if (!existsSync(installed)) return false;
  const wanted = JSON.parse(readFileSync(join(root, "package-lock.json"), "utf8")).packages;
  const there = JSON.parse(readFileSync(installed, "utf8")).packages;
  return Object.entries(wanted).every(
    ([path, entry]) =>
      path === "" || entry.optional || entry.link || !path.startsWith("node_modules/") || there[path]?.version === entry.version,
  );
}

checkNode();
installSystemPackages();
if (!modulesAreCurrent()) {
  console.log("installing npm packages");
  // Nothing here needs an install script, and so nothing is downloaded outside the registry.
  run("npm", ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]);
}
if (!process.argv.includes("--no-build")) {
  run(process.execPath, [join(root, "scripts", "build-native.mjs")]);
  run("npm", ["run", "--silent", "build:typescript"]);
}
