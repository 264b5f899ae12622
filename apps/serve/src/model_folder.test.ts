import { createHash } from "node:crypto";
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test, vi } from "vitest";
import { type LoopbackHub, openLoopbackHub } from "../../../packages/serve/src/hub/testing.js";
import { findModelFolder, hubSettings } from "./model_folder.js";
import { runProgram } from "./program.js";
import { captureOutput } from "./testing/capture_output.js";
import { saveTinyCheckpoint } from "./testing/tiny_checkpoint.js";

let dir: string;
let files: Record<string, Uint8Array>;
let hub: LoopbackHub;
const output = captureOutput();

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "zaya-model-"));
  await saveTinyCheckpoint(join(dir, "tiny"));
  files = Object.fromEntries(
    await Promise.all((await readdir(join(dir, "tiny"))).map(async (name) => [name, await readFile(join(dir, "tiny", name))])),
  );
});
afterAll(() => rm(dir, { recursive: true }));
beforeEach(async () => {
  hub = await openLoopbackHub("org/tiny", files);
  vi.stubEnv("HF_HOME", await mkdtemp(join(dir, "home-")));
  vi.stubEnv("HF_ENDPOINT", hub.endpoint);
  for (const name of ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_TOKEN", "HF_TOKEN_PATH", "HF_HUB_OFFLINE"]) vi.stubEnv(name, "");
});
afterEach(async () => {
  vi.unstubAllEnvs();
  await hub[Symbol.asyncDispose]();
});

const complete = ["complete", "org/tiny", "the fox", "--max-tokens", "8", "--seed", "5", "--json"];

test("completes with a model of the hub, and again without a network", async () => {
  expect(await runProgram(complete)).toBe(0);
  expect(output.stderr).toMatch(/^asking http:\/\/127\.0\.0\.1:\d+ for org\/tiny\ndownloading org\/tiny into .*hub: [\d.]+ MB in \d files/);
  const answer = JSON.parse(output.stdout) as { model: string; text: string };
  expect(answer.model).toBe("org/tiny");
  await hub[Symbol.asyncDispose]();
  output.stdout = "";
  expect(await runProgram(complete)).toBe(0);
  expect(output.stderr).toContain("cannot be reached");
  expect(output.stderr).toContain("going on with the copy that is there");
  output.stdout = "";
  output.stderr = "";
  vi.stubEnv("HF_HUB_OFFLINE", "1");
  expect(await runProgram(complete)).toBe(0);
  expect(output.stderr).toMatch(/^loading [\d.]+ kB of [\d.]+ MB\n$/);
  expect(JSON.parse(output.stdout)).toMatchObject({ text: answer.text });
});

test("goes on with a complete copy whatever the hub answers", async () => {
  const { dir: copy } = await findModelFolder("org/tiny", {});
  for (const [status, token, line] of [
    [401, "", /has no model org\/tiny, or it is private/],
    [401, "hf_old", /does not accept the token/],
    [403, "hf_old", /org\/tiny is gated/],
    [429, "", /answers 429/],
    [503, "", /answers 503/],
  ] as const) {
    vi.stubEnv("HF_TOKEN", token);
    hub.refusesWith = status;
    output.stderr = "";
    expect(await findModelFolder("org/tiny", {})).toEqual({ dir: copy, hubName: "org/tiny" });
    expect(output.stderr).toMatch(line);
    expect(output.stderr).toContain("; going on with the copy that is there\n");
  }
});

test("asks nobody for a commit that is there", async () => {
  await findModelFolder("org/tiny", {});
  hub.apiCalls.length = 0;
  const { dir } = await findModelFolder("org/tiny", { revision: hub.commit });
  expect(hub.apiCalls).toEqual([]);
  expect(dir.endsWith(hub.commit)).toBe(true);
});

test("takes a folder before a name on the hub", async () => {
  await mkdir(join(dir, "work", "org", "tiny"), { recursive: true });
  const before = process.cwd();
  process.chdir(join(dir, "work"));
  try {
    expect(await findModelFolder("org/tiny", {})).toEqual({ dir: "org/tiny", hubName: null });
  } finally {
    process.chdir(before);
  }
  expect(hub.apiCalls).toEqual([]);
});

test("stops at Ctrl-C, and goes on from there", async () => {
  hub.faults.set("model.safetensors", [{ hangAfter: 100_000 }]);
  const blob = createHash("sha256")
    .update(files["model.safetensors"] as Uint8Array)
    .digest("hex");
  const incomplete = join(process.env.HF_HOME as string, "hub", "models--org--tiny", "blobs", `${blob}.incomplete`);
  const running = runProgram(complete);
  while (!((await stat(incomplete).catch(() => null))?.size ?? 0)) await new Promise((resolve) => setImmediate(resolve));
  process.emit("SIGINT");
  expect(await running).toBe(4);
  expect(output.stderr).toContain("zaya-serve: stopped; what came is kept, the same command goes on from there\n");
  hub.requests.length = 0;
  expect(await runProgram(complete)).toBe(0);
  expect(hub.requests.find(({ path }) => path === "model.safetensors")?.range).toMatch(/^bytes=[1-9]/);
});

test("says in one line what is wrong, with exit code 2", async () => {
  const cases: readonly [what: () => unknown, words: string[], line: RegExp][] = [
    [
      () => {},
      ["complete", "org/none", "x"],
      /there is no folder org\/none, and http:\S+ has no model org\/none, or it is private: set HF_TOKEN/,
    ],
    [() => {}, ["complete", join(dir, "tiny"), "x", "--revision", "v7"], /--revision is of models on the hub, and \S+tiny is a folder/],
    [() => {}, ["complete", "a/b/c", "x"], /there is no folder a\/b\/c, and a model on the hub is called ORG\/MODEL/],
    [() => {}, ["complete", "./nothing", "x"], /there is no folder \.\/nothing/],
    [() => {}, ["complete", join(dir, "tiny", "config.json"), "x"], /config\.json is a file/],
    [() => {}, [...complete, "--revision", "v7"], /has no revision v7/],
    [() => {}, [...complete, "--revision", "../.."], /--revision \.\.\/\.\. is no branch, tag or commit/],
    [() => Object.assign(hub, { gatedFor: "mine" }), complete, /org\/tiny is gated: accept its terms/],
    [
      () => void vi.stubEnv("HF_HUB_OFFLINE", "1"),
      ["complete", "org/tiny", "x"],
      /there is no folder org\/tiny, HF_HUB_OFFLINE is set, and the model is not complete in/,
    ],
    [() => void vi.stubEnv("HF_HUB_OFFLINE", ""), ["serve", "org/none", "--port", "0"], /there is no folder org\/none/],
    [() => hub[Symbol.asyncDispose](), complete, /there is no folder org\/tiny, and http:\S+ cannot be reached/],
  ];
  for (const [arrange, words, line] of cases) {
    await arrange();
    output.stderr = "";
    expect(await runProgram(words), words.join(" ")).toBe(2);
    expect(output.stderr.split("\n").filter((text) => text.startsWith("zaya-serve: "))).toEqual([expect.stringMatching(line)]);
    expect(output.stderr).not.toContain("    at ");
  }
});

test("finds the hub, its cache and the token where all its tools look", async () => {
  const home = join(dir, "settings");
  await mkdir(home);
  await writeFile(join(home, "token"), "hf_file\n");
  expect(await hubSettings({ HF_HOME: home })).toEqual({ cacheDir: join(home, "hub"), token: "hf_file", offline: false });
  expect(await hubSettings({ XDG_CACHE_HOME: "/x" })).toEqual({ cacheDir: "/x/huggingface/hub", offline: false });
  expect(
    await hubSettings({ HF_HOME: home, HF_HUB_CACHE: "/c", HF_TOKEN: "hf_env", HF_ENDPOINT: "http://h", HF_HUB_OFFLINE: "TRUE" }),
  ).toEqual({ cacheDir: "/c", token: "hf_env", endpoint: "http://h", offline: true });
  expect((await hubSettings({ HF_TOKEN_PATH: join(home, "token") })).token).toBe("hf_file");
  await expect(hubSettings({ HF_HOME: home, HF_TOKEN: "hf_a\nhf_b" })).rejects.toThrow(/^HF_TOKEN holds something that is no token$/);
});
