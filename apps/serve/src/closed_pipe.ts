import type { EventEmitter } from "node:events";
import { describeFailure, exitCodes } from "./exit.js";

/**
 * Stops the work as Ctrl-C does, which keeps or finishes what was begun, when the reader of an output goes before the end, as `head` does. Another
 * failure of an output ends the process with one line.
 */
export function stopAtClosedPipe(outputs: readonly EventEmitter[], exit: (code: number) => void = process.exit): void {
  let stopped = false;
  const onError = (error: NodeJS.ErrnoException) => {
    if (error.code !== "EPIPE") {
      const { line, code } = describeFailure(error);
      process.stderr.write(`zaya-serve: ${line}\n`);
      exit(code);
    } else if (!stopped) {
      stopped = true; // every further line fails too
      if (!process.emit("SIGINT")) exit(exitCodes.partial);
    }
  };
  for (const output of outputs) output.on("error", onError);
}
