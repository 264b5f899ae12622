import type { EventEmitter } from "node:events";
import { stoppedCode } from "./interrupt.js";

/** A program, and how it tells what was thrown: one line, and an exit code. */
export interface Program {
  readonly name: string;
  describe(error: unknown): { readonly line: string; readonly code: number };
}

/**
 * Stops the work as Ctrl-C does, which finishes, saves or removes what was begun, when the reader of an output goes before the end, as `head` does (EPIPE)
 * and a terminal that is closed (EIO).
 * Listeners get the name SIGPIPE, which tells it from a Ctrl-C: two of those may end a process at once. Another failure of an output ends the process with one line.
 */
export function stopAtClosedPipe(
  { name, describe }: Program,
  outputs: readonly EventEmitter[] = [process.stdout, process.stderr],
  exit: (code: number) => void = process.exit,
): void {
  let closed = false;
  const onError = (error: NodeJS.ErrnoException) => {
    if (error.code !== "EPIPE" && error.code !== "EIO") {
      const { line, code } = describe(error);
      process.stderr.write(`${name}: ${line}\n`);
      exit(code);
    } else if (!closed) {
      closed = true; // every further line fails too
      if (!process.emit("SIGINT", "SIGPIPE")) exit(stoppedCode);
    }
  };
  for (const output of outputs) output.on("error", onError);
}
