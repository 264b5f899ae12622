import { EventEmitter } from "node:events";
import { afterEach, expect, test, vi } from "vitest";
import { stopAtClosedPipe } from "./closed_pipe.js";
import { StoppedError } from "./exit.js";
import { interruptible } from "./interrupt.js";

afterEach(() => vi.restoreAllMocks());

const failure = (code: string) => Object.assign(new Error(`${code}: write`), { code });

test("a closed pipe stops the work once, however many lines fail", async () => {
  const [output, exit] = [new EventEmitter(), vi.fn()];
  stopAtClosedPipe([output], exit);
  const work = interruptible(
    "stopped",
    (signal) => new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason))),
  );
  output.emit("error", failure("EPIPE"));
  output.emit("error", failure("EPIPE"));
  await expect(work).rejects.toEqual(new StoppedError("stopped"));
  expect(exit).not.toHaveBeenCalled();
});

test("a closed pipe ends a process that cannot be stopped otherwise", () => {
  const [output, exit] = [new EventEmitter(), vi.fn()];
  stopAtClosedPipe([output], exit);
  output.emit("error", failure("EPIPE"));
  expect(exit).toHaveBeenCalledExactlyOnceWith(4);
});

test("a full disk behind an output is told in one line", () => {
  const [output, exit] = [new EventEmitter(), vi.fn()];
  const write = vi.spyOn(process.stderr, "write").mockReturnValue(true);
  stopAtClosedPipe([output], exit);
  output.emit("error", failure("ENOSPC"));
  expect(exit).toHaveBeenCalledExactlyOnceWith(2);
  expect(write).toHaveBeenCalledExactlyOnceWith("zaya-train: ENOSPC: write\n");
});

test("what a signal aborts in Node ends as what it is, and no listener stays", async () => {
  const before = process.listenerCount("SIGINT");
  const work = interruptible("stopped", async () => {
    process.emit("SIGINT");
    throw Object.assign(new Error("The operation was aborted"), { name: "AbortError" });
  });
  await expect(work).rejects.toEqual(new StoppedError("stopped"));
  expect(process.listenerCount("SIGINT")).toBe(before);
  await expect(interruptible("stopped", async () => Promise.reject(new Error("else")))).rejects.toThrow("else");
});
