import { spawn } from "node:child_process";
import { EventEmitter, once } from "node:events";
import { mkdtemp, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test, vi } from "vitest";
import { bundle } from "../../../packages/model/src/testing/bundle.js";
import { stopAtClosedPipe } from "./closed_pipe.js";
import { interruptible, nextSignal, StoppedError, signalAgain, stoppedCode } from "./interrupt.js";

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

test.each([
  ["after", ["SIGINT", "EPIPE"]],
  ["before", ["EPIPE", "SIGINT"]],
])("a Ctrl-C that an output's reader gets %s this program lets the work end in order; a second one does not", async (_when, events) => {
  const exit = vi.spyOn(process, "exit").mockReturnValue(undefined as never);
  const output = new EventEmitter();
  stopAtClosedPipe({ name: "program", describe: () => ({ line: "", code: 1 }) }, [output]);
  const send = (event: string) =>
    event === "EPIPE" ? output.emit("error", Object.assign(new Error("write EPIPE"), { code: event })) : process.emit("SIGINT", "SIGINT");
  const work = interruptible("stopped", async (signal) => {
    for (const event of events) send(event);
    expect(signal.aborted).toBe(true);
    expect(exit).not.toHaveBeenCalled();
    send("SIGINT");
    expect(exit).toHaveBeenCalledExactlyOnceWith(stoppedCode);
    signal.throwIfAborted();
  });
  await expect(work).rejects.toEqual(new StoppedError("stopped"));
  exit.mockRestore();
});

test.each([
  ["Ctrl-C, the reader, Ctrl-C", ["SIGINT", "SIGPIPE", "SIGINT"]],
  ["the reader, Ctrl-C, Ctrl-C", ["SIGPIPE", "SIGINT", "SIGTERM"]],
  ["SIGTERM, the terminal, Ctrl-C", ["SIGTERM", "SIGHUP", "SIGINT"]],
  ["the terminal, SIGTERM, SIGTERM", ["SIGHUP", "SIGTERM", "SIGTERM"]],
])("a second signal of a person is a second one: %s", async (_order, names) => {
  const turn = () => new Promise((resolve) => setImmediate(resolve));
  const send = (name: string) => process.emit(name === "SIGPIPE" ? "SIGINT" : (name as "SIGINT"), name as NodeJS.Signals);
  const [one, two, three] = names as [string, string, string];
  const first = nextSignal();
  send(one);
  let again = false;
  const second = signalAgain(await first).then(() => {
    again = true;
  });
  send(two);
  await turn();
  expect(again).toBe(false);
  send(three);
  await second;
});

test("a terminal that closes, and says so twice, lets the work end in order", async () => {
  const folder = await mkdtemp(join(tmpdir(), "interrupt-"));
  const source = JSON.stringify(fileURLToPath(new URL("./interrupt.ts", import.meta.url)));
  await writeFile(
    join(folder, "work.ts"),
    `import { interruptible, stoppedCode } from ${source};
    void interruptible("stopped", async (signal) => {
      const working = setInterval(() => {}, 1000);
      process.stdout.write("working\\n");
      await new Promise((resolve) => signal.addEventListener("abort", resolve));
      process.kill(process.pid, "SIGHUP");
      await new Promise((resolve) => process.once("SIGHUP", () => setImmediate(resolve)));
      clearInterval(working);
      process.stdout.write("saved\\n");
      signal.throwIfAborted();
    }).catch((error) => {
      process.stdout.write(error.message);
      process.exitCode = stoppedCode;
    });`,
  );
  const child = spawn(process.execPath, [await bundle(join(folder, "work.ts"), join(folder, "built"))], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  let output = "";
  child.stdout.on("data", (data) => {
    if (output === "") child.kill("SIGHUP");
    output += data;
  });
  expect(await once(child, "close")).toEqual([stoppedCode, null]);
  expect(output).toBe("working\nsaved\nstopped");
});
