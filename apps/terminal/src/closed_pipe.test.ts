import { EventEmitter } from "node:events";
import { afterEach, expect, test, vi } from "vitest";
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

test("a full disk behind an output is told in one line", () => {
  const [output, exit] = [new EventEmitter(), vi.fn()];
  const write = vi.spyOn(process.stderr, "write").mockReturnValue(true);
  stopAtClosedPipe(program, [output], exit);
  output.emit("error", failure("ENOSPC"));
  expect(exit).toHaveBeenCalledExactlyOnceWith(2);
  expect(write).toHaveBeenCalledExactlyOnceWith("program: ENOSPC: write\n");
});
