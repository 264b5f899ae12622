import type { EventEmitter } from "node:events";
import { describeError, exitCode } from "./exit.js";

/**
 * Stops the work as SIGTERM does, which saves or removes what was begun, when the reader of an output goes before the end, as `head` does.
 * Another failure of an output ends the process with one line.
 */
export function stopAtClosedPipe(outputs: readonly EventEmitter[], exit: (code: number) => void = process.exit): void {
  let stopped = false;
  const onError = (error: NodeJS.ErrnoException) => {
    if (error.code !== "EPIPE") {
      const { line, code } = describeError(error);
      process.stderr.write(`zaya-train: ${line}\n`);
      exit(code);
    } else if (!stopped) {
      stopped = true; // every further line fails too
      if (!process.emit("SIGTERM")) exit(exitCode.partial);
    }
  };
  for (const output of outputs) output.on("error", onError);
}
