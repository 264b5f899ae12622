import type { EventEmitter } from "node:events";
import { stoppedCode } from "./interrupt.js";

/** A program, and how it tells what was thrown: one line, and an exit code. */
export interface Program {
  readonly name: string;
  describe(error: unknown): { readonly line: string; readonly code: number };
}

const readerGone = new Set(["EPIPE", "EIO"]);
const noRoom = new Set(["ENOSPC", "EDQUOT", "EFBIG"]);
const noRoomCode = 2;

/**
 * Stops the work as Ctrl-C does, which finishes, saves or removes what was begun, when the reader of an output goes before the end, as `head` does (EPIPE)
 * and a terminal that is closed (EIO), or when there is no room for an output, which the other one tells in one line; the process then ends with code 2.
 * Listeners get the name SIGPIPE, which tells it from a Ctrl-C: two of those may end a process at once. Another failure of an output ends the process with one line.
 */
export function stopAtClosedPipe(
  { name, describe }: Program,
  outputs: readonly EventEmitter[] = [process.stdout, process.stderr],
  exit: (code: number) => void = process.exit,
): void {
  let closed = false;
  const onError = (output: EventEmitter, error: NodeJS.ErrnoException) => {
    if (closed) return; // every further line fails too
    const { code = "", message } = error;
    const full = noRoom.has(code);
    if (!full && !readerGone.has(code)) {
      const told = describe(error);
      process.stderr.write(`${name}: ${told.line}\n`);
      return exit(told.code);
    }
    closed = true;
    if (full) {
      process.once("exit", () => exit(noRoomCode)); // whatever the code of work that was stopped
      (output === process.stderr ? process.stdout : process.stderr).write(`${name}: ${message}\n`);
    }
    if (!process.emit("SIGINT", "SIGPIPE")) exit(full ? noRoomCode : stoppedCode);
  };
  for (const output of outputs) output.on("error", (error) => onError(output, error));
}
