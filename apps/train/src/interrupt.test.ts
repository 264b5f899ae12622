import { expect, test } from "vitest";
import { StoppedError } from "./exit.js";
import { interruptible } from "./interrupt.js";

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
