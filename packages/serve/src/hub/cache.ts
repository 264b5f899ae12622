import { readFile, rename, rm, stat, symlink, writeFile } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import { makeFolder, takeLock } from "@zaya/model/internal";

/**
 * A model in the cache that all tools of the hub share, so that what one of them downloaded is there for the others:
 *
 *   CACHE/models--ORG--NAME/blobs/ETAG              each content once
 *                          /snapshots/COMMIT/FILE   a link to it
 *                          /refs/REVISION           the commit that a branch or tag was at
 */
export interface ModelCache {
  /** The folder of a commit. */
  snapshot(commit: string): string;
  blob(etag: string): string;
  /** Puts a file into the folder of a commit, as a link to its blob. */
  link(commit: string, file: string, etag: string): Promise<void>;
  /** The commit a revision was at when it was last asked for, or null. */
  commitOf(revision: string): Promise<string | null>;
  remember(revision: string, commit: string): Promise<void>;
  /**
   * Keeps other processes from downloading the same model until it is disposed.
   * @throws DOWNLOAD_LOCKED naming the process that does
   */
  lock(): Promise<AsyncDisposable>;
}

export function openModelCache(cacheDir: string, model: string): ModelCache {
  const name = `models--${model.replaceAll("/", "--")}`;
  const root = join(cacheDir, name);
  const refOf = (revision: string) => join(root, "refs", ...revision.split("/"));
  const cache: ModelCache = {
    snapshot: (commit) => join(root, "snapshots", commit),
    blob: (etag) => join(root, "blobs", etag),
    async link(commit, file, etag) {
      const path = join(cache.snapshot(commit), file);
      await makeFolder(dirname(path));
      await rm(path, { force: true });
      await symlink(relative(dirname(path), cache.blob(etag)), path);
    },
    async commitOf(revision) {
      if (isCommit(revision)) return revision;
      const text = await readFile(refOf(revision), "utf8").catch(() => "");
      return isCommit(text.trim()) ? text.trim() : null;
    },
    async remember(revision, commit) {
      if (isCommit(revision)) return;
      const path = refOf(revision);
      await makeFolder(dirname(path));
      await writeFile(`${path}.new`, commit);
      await rename(`${path}.new`, path);
    },
    async lock() {
      const path = join(cacheDir, ".locks", name, "zaya.lock");
      await makeFolder(dirname(path));
      return await takeLock(path, { code: "DOWNLOAD_LOCKED", doing: `downloading ${model}` });
    },
  };
  return cache;
}

/** Whether a revision is a commit and so never changes. */
export function isCommit(revision: string): boolean {
  return /^[0-9a-f]{40}$/.test(revision);
}

/** Bytes of a file, links followed; -1 where there is none. */
export async function bytesOf(path: string): Promise<number> {
  return stat(path).then(
    ({ size }) => size,
    () => -1,
  );
}
