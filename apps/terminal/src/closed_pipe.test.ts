import { spawn } from "node:child_process";
import { EventEmitter, once } from "node:events";
import { existsSync } from "node:fs";
import { mkdtemp, open, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, expect, onTestFinished, test, vi } from "vitest";
import { bundle } from "../../../packages/model/src/testing/bundle.js";
import { type Program, stopAtClosedPipe } from "./closed_pipe.js";

afterEach(() => vi.restoreAllMocks());

const program: Program = { name: "program", describe: (error) => ({ line: (error as Error).message, code: 2 }) };
const failure = (code: string) => Object.assign(new Error(`${code}: write`), { code });

test.each(["EPIPE", "EIO"])("a closed pipe or terminal (%s) stops the work once, however many lines fail", (code) => {
  const [output, exit, stop] = [new EventEmitter(), vi.fn(), vi.fn()];
  stopAtClosedPipe(program, [output], exit);
  process.on("SIGINT", stop);
  output.emit("error", failure(code));
  output.emit("error", failure(code));
  process.off("SIGINT", stop);
  output.emit("error", failure(code));
  expect(stop).toHaveBeenCalledTimes(1);
  expect(exit).not.toHaveBeenCalled();
});

test("a closed pipe ends a process that does nothing that could be stopped", () => {
  const [output, exit] = [new EventEmitter(), vi.fn()];
  stopAtClosedPipe(program, [output], exit);
  output.emit("error", failure("EPIPE"));
  expect(exit).toHaveBeenCalledExactlyOnceWith(4);
});

test.each(["ENOSPC", "EDQUOT", "EFBIG"])("a full disk behind an output (%s) stops the work once, and is told in one line", (code) => {
  const [output, exit, stop] = [new EventEmitter(), vi.fn(), vi.fn()];
  const write = vi.spyOn(process.stderr, "write").mockReturnValue(true);
  stopAtClosedPipe(program, [output], exit);
  process.on("SIGINT", stop);
  output.emit("error", failure(code));
  output.emit("error", failure(code));
  process.off("SIGINT", stop);
  expect(stop).toHaveBeenCalledExactlyOnceWith("SIGPIPE");
  expect(write).toHaveBeenCalledExactlyOnceWith(`program: ${code}: write\n`);
  expect(exit).not.toHaveBeenCalled();
  const atExit = process.listeners("exit").at(-1) as (code: number) => void;
  process.off("exit", atExit);
  atExit(4);
  expect(exit).toHaveBeenCalledExactlyOnceWith(2);
});

test("a full disk ends a process that does nothing that could be stopped", () => {
  const [output, exit] = [new EventEmitter(), vi.fn()];
  vi.spyOn(process.stderr, "write").mockReturnValue(true);
  vi.spyOn(process, "once").mockReturnValue(process);
  stopAtClosedPipe(program, [output], exit);
  output.emit("error", failure("ENOSPC"));
  expect(exit).toHaveBeenCalledExactlyOnceWith(2);
});

test("another failure of an output ends the process with one line", () => {
  const [output, exit] = [new EventEmitter(), vi.fn()];
  const write = vi.spyOn(process.stderr, "write").mockReturnValue(true);
  stopAtClosedPipe(program, [output], exit);
  output.emit("error", failure("EBADF"));
  expect(exit).toHaveBeenCalledExactlyOnceWith(2);
  expect(write).toHaveBeenCalledExactlyOnceWith("program: EBADF: write\n");
});

test.runIf(existsSync("/dev/full")).each(["stdout", "stderr"] as const)(
  "work ends in order, with code 2, where %s has no room",
  async (full) => {
    const folder = await mkdtemp(join(tmpdir(), "full-"));
    onTestFinished(() => rm(folder, { recursive: true }));
    const source = (name: string) => JSON.stringify(fileURLToPath(new URL(name, import.meta.url)));
    await writeFile(
      join(folder, "work.ts"),
      `import { stopAtClosedPipe } from ${source("./closed_pipe.ts")};
    import { interruptible } from ${source("./interrupt.ts")};
    stopAtClosedPipe({ name: "program", describe: () => ({ line: "not described", code: 1 }) });
    const [full, other] = [process.${full}, process.${full === "stdout" ? "stderr" : "stdout"}];
    void interruptible("stopped", async (signal) => {
      const working = setInterval(() => full.write("working\\n"), 1);
      await new Promise((resolve) => signal.addEventListener("abort", resolve));
      for (let line = 0; line < 3; line++) await new Promise((resolve) => full.write("saving\\n", resolve));
      clearInterval(working);
      other.write("saved\\n");
      signal.throwIfAborted();
    }).catch((error) => {
      other.write(error.message);
      process.exitCode = 4;
    });`,
    );
    const device = await open("/dev/full", "w");
    onTestFinished(() => device.close());
    const stdio = full === "stdout" ? (["ignore", device.fd, "pipe"] as const) : (["ignore", "pipe", device.fd] as const);
    const child = spawn(process.execPath, [await bundle(join(folder, "work.ts"), join(folder, "built"))], { stdio: [...stdio] });
    let output = "";
    (child.stdout ?? child.stderr)?.on("data", (data) => {
      output += data;
    });
    expect(await once(child, "close")).toEqual([2, null]);
    expect(output).toBe("program: ENOSPC: no space left on device, write\nsaved\nstopped");
  },
);
