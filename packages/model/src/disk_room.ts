import { statfs } from "node:fs/promises";
import { formatBytes } from "@zaya/kernels";
import { fail } from "./errors.js";

/**
 * Refuses, before anything is written, what the disk of a folder that is there has no room for. `bytes` are those that will be there beside what is there now.
 *
 * @throws DISK_FULL: "zaya1-8b-q4 needs 5.50 GB more, and the disk of /data has 3.20 GB left; free some" and `otherwise`
 */
export async function expectDiskRoom(
  dir: string,
  bytes: number,
  { what, otherwise }: { readonly what: string; readonly otherwise: string },
): Promise<void> {
  const { bavail, bsize } = await statfs(dir);
  if (bytes <= bavail * bsize) return;
  fail(
    "DISK_FULL",
    `${what} needs ${formatBytes(bytes)} more, and the disk of ${dir} has ${formatBytes(bavail * bsize)} left; free some, or ${otherwise}`,
  );
}
