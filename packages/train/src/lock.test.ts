import { spawnSync } from "node:child_process";
import { mkdtemp, readFile, stat, writeFile } from "node:fs/promises";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { beforeEach, expect, test } from "vitest";
import { takeLock } from "./lock.js";

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
  await using _lock = await takeLock(path);
});

test("respects a lock of another machine", async () => {
  await writeFile(path, JSON.stringify({ pid: 1, host: "elsewhere", started: "1" }));
  await expect(takeLock(path)).rejects.toMatchObject({ code: "RUN_LOCKED" });
});
