// Packs what would be published into tarballs: packages, apps, and the platform package that holds the addon.
// @zaya/kernels names the platform package in optionalDependencies only here, so that a clone installs without it.
//
//   node scripts/pack.mjs OUT     needs a build; writes OUT/packages and OUT/apps (npm would call @zaya/serve and zaya-serve the same)
import { spawnSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const out = resolve(process.argv[2] ?? join(root, "build", "tarballs"));
const stage = mkdtempSync(join(tmpdir(), "zaya-pack-"));
const platform = "@zaya/kernels-linux-x64-gnu";

function run(command, args, cwd) {
  const result = spawnSync(command, args, { cwd, encoding: "utf8" });
  if (result.status !== 0) throw new Error(`${command} ${args.join(" ")}: ${result.error?.message ?? result.stderr}`);
  return result.stdout;
}

/** Packs a folder; returns the tarball's path. */
function pack(folder, into) {
  const [{ filename }] = JSON.parse(run("npm", ["pack", "--json", "--ignore-scripts", "--pack-destination", into], folder));
  return join(into, filename);
}

/** What npm would publish of a workspace, with the licence, and a package.json as users need it. */
function packWorkspace(folder, into, edit) {
  const unpacked = mkdtempSync(join(stage, "unpacked-"));
  run("tar", ["-xzf", pack(folder, unpacked), "-C", unpacked]);
  const packed = join(unpacked, "package");
  const { devDependencies: _, scripts: __, ...manifest } = JSON.parse(readFileSync(join(packed, "package.json"), "utf8"));
  edit?.(manifest);
  writeFileSync(join(packed, "package.json"), `${JSON.stringify(manifest, null, 2)}\n`);
  copyFileSync(join(root, "LICENSE"), join(packed, "LICENSE"));
  return pack(packed, into);
}

function packPlatform(version, into) {
  const folder = mkdtempSync(join(stage, "platform-"));
  const manifest = {
    name: platform,
    version,
    description: "The native addon of @zaya/kernels for x86-64 Linux with glibc",
    license: "Apache-2.0",
    os: ["linux"],
    cpu: ["x64"],
    libc: ["glibc"],
    engines: { node: ">=20.19" },
    type: "commonjs",
    files: ["zaya.node"],
    main: "zaya.node",
  };
  writeFileSync(join(folder, "package.json"), `${JSON.stringify(manifest, null, 2)}\n`);
  writeFileSync(
    join(folder, "README.md"),
    `# ${platform}\n\n${manifest.description}. Installed with it where it fits; not meant to be imported.\n`,
  );
  copyFileSync(join(root, "LICENSE"), join(folder, "LICENSE"));
  run("strip", ["--strip-unneeded", "-o", join(folder, "zaya.node"), join(root, "native", "build", "zaya.node")], folder);
  checkSymbols(join(folder, "zaya.node"));
  return pack(folder, into);
}

/** The addon must load on glibc 2.34, and bring its own libstdc++. */
function checkSymbols(addon) {
  const versions = [...run("objdump", ["-T", addon], root).matchAll(/GLIBC_2\.(\d+)/g)].map((match) => Number(match[1]));
  if (Math.max(...versions) > 34) throw new Error(`the addon needs glibc 2.${Math.max(...versions)}, more than 2.34`);
  const needed = [...run("objdump", ["-p", addon], root).matchAll(/NEEDED +(\S+)/g)].map((match) => match[1]);
  const foreign = needed.filter((library) => !/^(libc|libm|libdl|libpthread|ld-linux-x86-64)\.so/.test(library));
  if (foreign.length > 0) throw new Error(`the addon is linked to ${foreign.join(", ")}`);
}

try {
  for (const group of ["packages", "apps"]) {
    const into = join(out, group);
    rmSync(into, { recursive: true, force: true });
    mkdirSync(into, { recursive: true });
    for (const name of readdirSync(join(root, group)).sort()) {
      const folder = join(root, group, name);
      if (!existsSync(join(folder, "package.json"))) continue; // what both programs bundle
      if (name !== "kernels") console.log(packWorkspace(folder, into));
      else {
        const { version } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
        console.log(packPlatform(version, into));
        console.log(packWorkspace(folder, into, (manifest) => Object.assign(manifest, { optionalDependencies: { [platform]: version } })));
      }
    }
  }
} finally {
  rmSync(stage, { recursive: true, force: true });
}
