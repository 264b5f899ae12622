// Type-checks and runs every ```ts block of the READMEs and the guide against the installed tarballs, as a reader would: the blocks of a page in order, in
// a folder of the page's own that holds a tiny `checkpoint` and a `corpus.txt`. A program that listens is asked for /v1/models and then stopped.
//
//   node scripts/run-docs.mjs INSTALL [--results FILE]
import { spawn, spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { basename, dirname, join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import ts from "typescript";
import { check, finish } from "./checks.mjs";
import { declarations } from "./corpus.mjs";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const install = resolve(process.argv[2]);
const work = join(install, "docs");

function pages() {
  const inside = (folder, pick) => readdirSync(join(root, folder)).flatMap(pick).sort();
  const readmes = ["packages", "apps"].flatMap((group) => inside(group, (name) => [`${group}/${name}/README.md`]));
  return ["README.md", ...inside("docs/guide", (name) => (name.endsWith(".md") ? [`docs/guide/${name}`] : [])), ...readmes].filter((page) =>
    existsSync(join(root, page)),
  );
}

/** The ts blocks of a page, with the line each begins at. */
function blocksOf(page) {
  const text = readFileSync(join(root, page), "utf8");
  return [...text.matchAll(/^```ts\n([\s\S]*?)^```$/gm)].map((match) => ({
    source: match[1],
    line: text.slice(0, match.index).split("\n").length + 1,
  }));
}

function program(name, args) {
  const cli = join(install, "node_modules", `zaya-${name}`, "bin", `zaya-${name}.js`);
  const result = spawnSync(process.execPath, [cli, ...args], { cwd: work, encoding: "utf8" });
  if (result.status !== 0) throw new Error(`zaya-${name} ${args.join(" ")}\n${result.stdout}${result.stderr}`);
}

/** A program that ends by itself. */
function runToEnd(file, cwd) {
  const result = spawnSync(process.execPath, [file], { cwd, encoding: "utf8", timeout: 240_000, maxBuffer: 1 << 26 });
  if (result.status !== 0)
    throw new Error(`exit code ${result.status ?? result.signal}\n${result.stdout.slice(-2000)}${result.stderr.slice(-4000)}`);
  return `${result.stdout.trim().split("\n").length} lines`;
}

/** A program that listens on a port: answers /v1/models, then is stopped. */
async function runServer(file, cwd, port) {
  const child = spawn(process.execPath, [file], { cwd, stdio: ["ignore", "ignore", "pipe"] });
  let errors = "";
  child.stderr.on("data", (data) => (errors += data));
  try {
    for (let attempt = 0; attempt < 120; attempt++) {
      if (child.exitCode !== null) throw new Error(`ended before it listened\n${errors.slice(-4000)}`);
      const response = await fetch(`http://127.0.0.1:${port}/v1/models`).catch(() => null);
      if (response?.ok) return `answers on port ${port}`;
      await new Promise((resume) => setTimeout(resume, 250));
    }
    throw new Error(`no answer on port ${port}\n${errors.slice(-4000)}`);
  } finally {
    child.kill("SIGKILL");
  }
}

rmSync(work, { recursive: true, force: true });
mkdirSync(work, { recursive: true });
await check("the programs make a tokenizer and a checkpoint", () => {
  writeFileSync(join(work, "corpus.txt"), declarations(join(root, "node_modules"), { cap: 150e3 }).join("\n"));
  program("train", ["tokenizer", "train", "corpus.txt", "--out", "tokenizer", "--vocab-size", "1024"]);
  program("train", ["init", "zaya-tiny", "--out", "checkpoint", "--tokenizer", "tokenizer"]);
});

const programs = pages().flatMap((page) => {
  const folder = join(work, page.replaceAll("/", "-").replace(/\.md$/, ""));
  mkdirSync(folder);
  for (const name of ["corpus.txt", "checkpoint"])
    if (existsSync(join(work, name))) cpSync(join(work, name), join(folder, name), { recursive: true });
  return blocksOf(page).map(({ source, line }) => {
    const file = join(folder, `line-${line}.mts`);
    writeFileSync(file, source);
    return { page, line, source, file, folder };
  });
});

await check(`types of ${programs.length} programs`, () => {
  const options = {
    strict: true,
    noEmit: true,
    skipLibCheck: true,
    target: ts.ScriptTarget.ES2023,
    lib: ["lib.es2023.d.ts", "lib.esnext.disposable.d.ts"],
    module: ts.ModuleKind.NodeNext,
    moduleResolution: ts.ModuleResolutionKind.NodeNext,
    types: ["node"],
    typeRoots: [join(root, "node_modules", "@types")],
  };
  const diagnostics = ts.getPreEmitDiagnostics(
    ts.createProgram(
      programs.map(({ file }) => file),
      options,
    ),
  );
  const host = { getCanonicalFileName: (name) => name, getCurrentDirectory: () => work, getNewLine: () => "\n" };
  if (diagnostics.length > 0) throw new Error(ts.formatDiagnostics(diagnostics, host));
});

for (const { page, line, source, file, folder } of programs) {
  await check(`${page}:${line}`, async () => {
    const { outputText } = ts.transpileModule(source, {
      compilerOptions: { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext },
    });
    const script = join(folder, `${basename(file, ".mts")}.mjs`);
    writeFileSync(script, outputText);
    const port = /\.listen\(\{?(?: *port: *)?(\d+)/.exec(source)?.[1];
    return port ? await runServer(relative(folder, script), folder, port) : runToEnd(relative(folder, script), folder);
  });
}
finish();
