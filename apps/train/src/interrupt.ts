import { StoppedError } from "./exit.js";

const signals = ["SIGINT", "SIGTERM"] as const;

/** Runs work with a signal that Ctrl-C aborts, and then throws a StoppedError of this message; a second Ctrl-C ends the process at once. */
export async function interruptible<T>(message: string, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const controller = new AbortController();
  const stop = () => controller.abort(new StoppedError(message));
  for (const signal of signals) process.once(signal, stop);
  try {
    return await work(controller.signal);
  } catch (error) {
    // What Node aborts, as a child process, throws an error of its own.
    throw error instanceof Error && error.name === "AbortError" && controller.signal.aborted ? controller.signal.reason : error;
  } finally {
    for (const signal of signals) process.off(signal, stop);
  }
}
