import { readFile, stat } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { formatBytes, isZayaError } from "@zaya/kernels";
import type { DownloadOptions } from "@zaya/serve/hub";
import type { Command } from "commander";
import { formatSeconds } from "../../terminal/src/format_seconds.js";
import { interruptSignal, StoppedError } from "../../terminal/src/interrupt.js";
import { createProgressLine } from "../../terminal/src/progress_line.js";
import { InputError } from "./exit.js";

export interface RevisionFlags {
  readonly revision?: string | undefined;
}

/** The folder of a model's files, and the name it is known by. */
export interface ModelFolder {
  readonly dir: string;
  /** ORG/MODEL of a model from the hub; null for a folder of the user's. */
  readonly hubName: string | null;
}

export const modelArgument = "folder of a checkpoint, or ORG/MODEL on the Hugging Face hub";

export function addRevisionOption(command: Command): Command {
  return command.option("--revision <name>", "branch, tag or commit of a model on the hub (default: main)");
}

/**
 * Finds a model: a folder that is there, else ORG/MODEL in the cache or on the hub, downloaded with progress on stderr. Ctrl-C stops a download;
 * what came stays.
 */
export async function findModelFolder(given: string, { revision }: RevisionFlags): Promise<ModelFolder> {
  const entry = await stat(given).catch(() => null);
  if (entry?.isDirectory()) {
    if (revision !== undefined) throw new InputError(`--revision is of models on the hub, and ${given} is a folder`);
    if (await isUnfinished(given))
      throw new InputError(`${given} is what an interrupted zaya-serve quantize left; the same command continues it`);
    return { dir: given, hubName: null };
  }
  if (entry) throw new InputError(`${given} is a file; give the folder of a checkpoint`);
  if (!/^[\w-][\w.-]*\/[\w-][\w.-]*$/.test(given)) {
    throw new InputError(`there is no folder ${given}, and a model on the hub is called ORG/MODEL`);
  }
  if (revision?.split("/").some((part) => /^\.*$/.test(part))) throw new InputError(`--revision ${revision} is no branch, tag or commit`);
  const { cachedModel } = await import("@zaya/serve/hub");
  const { offline, ...options } = { ...(await hubSettings(process.env)), revision };
  const cached = await cachedModel(given, options);
  if (cached && (offline || /^[0-9a-f]{40}$/.test(revision ?? ""))) return { dir: cached, hubName: given };
  if (offline)
    throw new InputError(`there is no folder ${given}, HF_HUB_OFFLINE is set, and the model is not complete in ${options.cacheDir}`);
  try {
    return { dir: await download(given, options), hubName: given };
  } catch (error) {
    if (!isZayaError(error) || !["HUB_UNREACHABLE", "HUB_FAILED", "MODEL_GATED", "MODEL_NOT_FOUND"].includes(error.code)) throw error;
    if (!cached) throw new InputError(`there is no folder ${given}, and ${error.message}`);
    process.stderr.write(`${error.message}; going on with the copy that is there\n`);
    return { dir: cached, hubName: given };
  }
}

/** Whether `quantize` has begun a folder and not finished it. */
async function isUnfinished(dir: string): Promise<boolean> {
  const there = (name: string) =>
    stat(join(dir, name)).then(
      () => true,
      () => false,
    );
  return !(await there("config.json")) && (await there("quantise.journal"));
}

/** Where the hub and its cache are, by the variables that all its tools read. */
export async function hubSettings(env: NodeJS.ProcessEnv): Promise<DownloadOptions & { readonly offline: boolean }> {
  const home = env.HF_HOME || join(env.XDG_CACHE_HOME || join(homedir(), ".cache"), "huggingface");
  const tokenPath = env.HF_TOKEN_PATH || join(home, "token");
  const token = (env.HF_TOKEN || (await readFile(tokenPath, "utf8").catch(() => ""))).trim();
  if (!/^[\x21-\x7e]*$/.test(token)) throw new InputError(`${env.HF_TOKEN ? "HF_TOKEN" : tokenPath} holds something that is no token`);
  return {
    cacheDir: env.HF_HUB_CACHE || env.HUGGINGFACE_HUB_CACHE || join(home, "hub"),
    ...(env.HF_ENDPOINT ? { endpoint: env.HF_ENDPOINT } : {}),
    ...(token ? { token } : {}),
    offline: /^(1|on|yes|true)$/i.test(env.HF_HUB_OFFLINE ?? ""),
  };
}

async function download(model: string, options: DownloadOptions): Promise<string> {
  const { downloadModel } = await import("@zaya/serve/hub");
  using interrupt = interruptSignal(() => new StoppedError("stopped; what came is kept, the same command goes on from there"));
  const progress = createProgressLine();
  let begin = 0;
  let beginBytes = 0;
  progress.update(`asking ${options.endpoint ?? "the hub"} for ${model}`);
  try {
    for await (const event of downloadModel(model, { ...options, signal: interrupt.signal })) {
      if (event.type === "download-end") return event.dir;
      const { doneBytes, totalBytes } = event;
      if (event.type === "download-start") {
        [begin, beginBytes] = [performance.now(), doneBytes];
        if (doneBytes < totalBytes)
          process.stderr.write(`downloading ${model} into ${options.cacheDir}: ${formatBytes(totalBytes)} in ${event.files} files\n`);
      } else {
        const rate = (doneBytes - beginBytes) / ((performance.now() - begin) / 1000);
        const left = rate > 0 ? `  ${formatBytes(Math.round(rate))}/s  ${formatSeconds((totalBytes - doneBytes) / rate)} left` : "";
        progress.update(`${formatBytes(doneBytes)} of ${formatBytes(totalBytes)}  ${Math.floor((100 * doneBytes) / totalBytes)} %${left}`);
      }
    }
    throw new Error("the download ended without its last event");
  } finally {
    progress.end();
  }
}
