import { spawnSync } from "node:child_process";
import { mkdtemp, readdir, readFile, stat, utimes, writeFile } from "node:fs/promises";
import { hostname, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { beforeEach, expect, test } from "vitest";
import { takeLock as take } from "./lock.js";

const takeLock = (at: string) => take(at, { code: "RUN_LOCKED", doing: "working here" });

let path: string;
beforeEach(async () => {
  path = join(await mkdtemp(join(tmpdir(), "lock-")), "lock");
});

test("lets one process in and names it to the others", async () => {
  {
    await using _lock = await takeLock(path);
    await expect(takeLock(path)).rejects.toThrow(new RegExp(`process ${process.pid} on ${hostname()}`));
  }
  await expect(stat(path)).rejects.toThrow();
  await using _again = await takeLock(path);
});

test("takes over the lock of a process that is gone", async () => {
  const { pid } = spawnSync(process.execPath, ["-e", ""]);
  await writeFile(path, JSON.stringify({ pid, host: hostname(), started: "1" }));
  await using _lock = await takeLock(path);
  expect(JSON.parse(await readFile(path, "utf8")).pid).toBe(process.pid);
});

test("takes over the lock when another process has got the id", async () => {
  await writeFile(path, JSON.stringify({ pid: process.pid, host: hostname(), started: "1" }));
  await using _lock = await takeLock(path);
});

test("takes over the lock of a process that was killed before it wrote its name", async () => {
  await writeFile(path, "");
  await expect(takeLock(path)).rejects.toThrow("another process is working here"); // it may be about to
  await utimes(path, 1, 1);
  await using _lock = await takeLock(path);
});

test("respects a lock of another machine", async () => {
  await writeFile(path, JSON.stringify({ pid: 1, host: "elsewhere", started: "1" }));
  await expect(takeLock(path)).rejects.toMatchObject({
    code: "RUN_LOCKED",
    message: `${path}: process 1 on elsewhere (if it is gone, remove this file) is working here; wait for it or stop it`,
  });
});

test("lets one of many in that find the lock of a process that is gone", async () => {
  for (let round = 0; round < 20; round++) {
    await writeFile(path, JSON.stringify({ pid: process.pid, host: hostname(), started: "1" }));
    const results = await Promise.allSettled(Array.from({ length: 8 }, () => takeLock(path)));
    const taken = results.flatMap((result) => (result.status === "fulfilled" ? [result.value] : []));
    expect(taken.length).toBe(1);
    await taken[0]?.[Symbol.asyncDispose]();
    expect(await readdir(dirname(path))).toEqual([]);
  }
});
