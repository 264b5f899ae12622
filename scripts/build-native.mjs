// Builds the native addon: native/build/zaya.node, or with --asan native/build-asan/zaya.node with sanitizers.
// Quiet unless it fails; one line at the end. Configures only when it must (CMake itself notices new and removed sources).
import { spawnSync } from "node:child_process";
import { existsSync, statSync } from "node:fs";
import { availableParallelism } from "node:os";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const asan = process.argv.includes("--asan");
const build = join(root, "native", asan ? "build-asan" : "build");
const started = performance.now();

function run(command, args) {
  const result = spawnSync(command, args, { cwd: root, encoding: "utf8", maxBuffer: 1 << 28 });
  if (result.error) {
    console.error(`${command} could not be started (${result.error.message}); npm run setup installs or names what is missing`);
    process.exit(2);
  }
  if (result.status !== 0) {
    process.stderr.write(result.stdout + result.stderr);
    console.error(`the native build failed: ${command} ${args.join(" ")}`);
    process.exit(1);
  }
  return result.stdout + result.stderr;
}

if (!existsSync(join(build, "CMakeCache.txt")) || !(existsSync(join(build, "build.ninja")) || existsSync(join(build, "Makefile")))) {
  const ninja = spawnSync("ninja", ["--version"]).status === 0;
  const options = asan ? ["-DZAYA_ASAN=ON"] : [];
  run("cmake", ["-S", join(root, "native"), "-B", build, "-G", ninja ? "Ninja" : "Unix Makefiles", ...options]);
}
const output = run("cmake", ["--build", build, "--parallel", String(availableParallelism())]);
const warnings = output.match(/warning:.*/g) ?? [];
for (const warning of new Set(warnings)) console.error(warning);

const addon = join(build, "zaya.node");
const seconds = ((performance.now() - started) / 1000).toFixed(1);
const megabytes = (statSync(addon).size / 1e6).toFixed(1);
console.log(`${relative(root, addon)}: ${megabytes} MB, built in ${seconds} s`);
