// Adds to package-lock.json the platform packages that npm left out because the registry it was made with does not have them (a mirror with
// this platform's packages only). Without their entries `npm ci` refuses the lock file, here and on other platforms.
//
//   node scripts/complete-lock.mjs     after an `npm install` that changed package-lock.json
import { readFileSync, writeFileSync } from "node:fs";

const lock = JSON.parse(readFileSync("package-lock.json", "utf8"));
const systems = ["android", "darwin", "freebsd", "linux", "netbsd", "openbsd", "openharmony", "sunos", "aix", "win32"];
const processors = {
  x64: "x64",
  64: "x64",
  arm64: "arm64",
  arm: "arm",
  armv7: "arm",
  ia32: "ia32",
  ppc64: "ppc64",
  ppc64le: "ppc64",
  riscv64: "riscv64",
  s390x: "s390x",
  loong64: "loong64",
  mips64el: "mips64el",
  mips64: "mips64el",
  wasm32: "wasm32",
};

/** What a package of one platform is for, from its name: @rollup/rollup-linux-arm64-musl. */
function platformOf(name) {
  const words = name
    .replace(/^windows/, "win32")
    .replaceAll("windows", "win32")
    .split(/[/-]/);
  const os = name === "fsevents" ? "darwin" : systems.find((system) => words.includes(system));
  const cpu = words.map((word) => processors[word]).find(Boolean);
  const libc = words.some((word) => word.startsWith("musl")) ? "musl" : words.some((word) => word.startsWith("gnu")) ? "glibc" : undefined;
  return { ...(cpu && { cpu: [cpu] }), ...(libc && os === "linux" && { libc: [libc] }), ...(os && { os: [os] }) };
}

let added = 0;
for (const [path, entry] of Object.entries(lock.packages)) {
  for (const [name, range] of Object.entries(entry.optionalDependencies ?? {})) {
    const version = range.replace(/^[~^]/, "");
    const place = `node_modules/${name}`;
    if (lock.packages[`${path}/${place}`]) continue;
    if (lock.packages[place]?.integrity || lock.packages[place]?.version >= version) continue;
    lock.packages[place] = { version, ...(entry.dev && { dev: true }), optional: true, ...platformOf(name) };
    added++;
  }
}
lock.packages = Object.fromEntries(Object.entries(lock.packages).sort(([a], [b]) => (a < b ? -1 : 1)));
writeFileSync("package-lock.json", `${JSON.stringify(lock, null, 2)}\n`);
console.log(`${added} entries added`);
