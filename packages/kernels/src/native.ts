import { createRequire } from "node:module";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { fail } from "./errors.js";
import type { InstructionSetInfo } from "./instruction_sets.js";
import { planVersion } from "./plan.js";

/** The sets of CPU kernels: AVX-512 with BF16 and VNNI, AVX2 with FMA, and what any x86-64 has, which is the specification of the others. */
export type InstructionSet = "avx512" | "avx2" | "portable";

/** A device of the addon (native/addon/addon.cpp). One run at a time; everything else is synchronous. */
export interface NativeDevice {
  readonly isa: InstructionSet;
  operations(): string[];
  add(bytes: number): number;
  map(path: string, offset: number, bytes: number): number;
  prefetch(slot: number, hugePages: boolean): Promise<null>;
  hugeBytes(): number;
  remove(slot: number): void;
  write(slot: number, offset: number, data: NodeJS.TypedArray): void;
  read(slot: number, offset: number, into: NodeJS.TypedArray): void;
  workspaces(plan: Float64Array, maxima: Float64Array): Float64Array;
  compile(plan: Float64Array): number;
  drop(plan: number): void;
  run(
    plan: number,
    sizes: Float64Array,
    inputs: readonly NodeJS.TypedArray[],
    timing: boolean,
    outputs: Uint32Array,
  ): Promise<ArrayBuffer[] | null>;
  readOutput(plan: number, output: number, offset: number, into: NodeJS.TypedArray): void;
  abort(): void;
  times(plan: number): Float64Array;
  measure(what: string, milliseconds: number, keepBuffer: boolean): Promise<number>;
  measureReads(pieces: Float64Array, milliseconds: number, keepBuffer: boolean): Promise<number>;
  close(): void;
}

export interface NativeAddon {
  readonly planVersion: number;
  readonly Device: new (threads: number, isa: string, sharedCache?: boolean) => NativeDevice;
  /** The best last. */
  instructionSets(): readonly InstructionSetInfo[];
  memory(): { currentBytes: number; peakBytes: number };
  resetPeak(): void;
}

let loaded: NativeAddon | undefined;

/** Where packages are looked for from: this module, or the bundle that it is in, which has no URL where it is of CommonJS. */
export function moduleUrl(url: string | undefined): string {
  if (url?.startsWith("file:")) return url;
  return pathToFileURL(typeof __filename === "string" ? __filename : join(process.cwd(), "index.js")).href;
}

/**
 * What to do where the addon cannot be loaded, by why none of the places had one: install it, use a newer system, install it anew, or, on a platform that has
 * none, do without.
 */
export function adviceWithoutAddon(platform: string, arch: string, glibc: boolean, reasons: readonly string[]): string {
  if (platform === "linux" && arch === "x64" && glibc) {
    const found = reasons.filter((reason) => !/Cannot find module/.test(reason));
    if (found.some((reason) => /GLIBC_[\d.]+' not found/.test(reason)))
      return "The addon needs glibc 2.34 or newer (Debian 12, Ubuntu 22.04, RHEL 9); in a clone of the repository, npm run build:native makes one for this system";
    const install = "npm install @zaya/kernels-linux-x64-gnu";
    if (found.length > 0) return `What is there is damaged or of another version. Run: ${install}@VERSION, of the version of @zaya/kernels`;
    return `Run: ${install} (or, in a clone of the repository, npm run build:native)`;
  }
  const libc = platform === "linux" && !glibc ? " without glibc (Alpine has musl in its place)" : "";
  return `There is no addon for ${platform}-${arch}${libc}, only for x86-64 Linux with glibc. What computes nothing works without: graphs, costs, openDevice("null"), and the configurations, checkpoints and tokenizers of @zaya/model`;
}

/** Whether this process runs with glibc, which the addon needs. */
function hasGlibc(): boolean {
  const { header } = process.report.getReport() as { header: { glibcVersionRuntime?: string } };
  return header.glibcVersionRuntime !== undefined;
}

/**
 * Loads the addon: from the platform package beside this one, else from a build of the repository.
 * @throws NATIVE_UNAVAILABLE with every place tried, why it failed, and what to do
 */
export function loadAddon(): NativeAddon {
  if (loaded) return loaded;
  const base = moduleUrl(import.meta.url);
  const require = createRequire(base);
  const platform = `@zaya/kernels-${process.platform}-${process.arch}${process.platform === "linux" ? "-gnu" : ""}`;
  const places = [`${platform}/zaya.node`, fileURLToPath(new URL("../../../native/build/zaya.node", base))];
  const reasons: string[] = [];
  for (const place of places) {
    let addon: NativeAddon;
    try {
      addon = require(place) as NativeAddon;
    } catch (cause) {
      reasons.push(`${place}: ${cause instanceof Error ? cause.message.split("\n")[0] : String(cause)}`);
      continue;
    }
    if (addon.planVersion === planVersion) {
      loaded = addon;
      return addon;
    }
    reasons.push(`${place}: reads plans of version ${addon.planVersion}, this package writes ${planVersion}`);
  }
  return fail(
    "NATIVE_UNAVAILABLE",
    `the native addon could not be loaded. Tried:\n${reasons.map((reason) => `  ${reason}`).join("\n")}\n${adviceWithoutAddon(process.platform, process.arch, hasGlibc(), reasons)}`,
  );
}
