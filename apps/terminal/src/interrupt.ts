/** The exit code of work that was stopped. */
export const stoppedCode = 4;

/** What a signal of the user ended before its end, told in one line. */
export class StoppedError extends Error {}

const signals = ["SIGINT", "SIGTERM"] as const;

/** A signal that Ctrl-C aborts, or the reader of an output that goes, until it is disposed; a second Ctrl-C ends the process at once. */
export function interruptSignal(reason: () => Error): Disposable & { readonly signal: AbortSignal } {
  const controller = new AbortController();
  let interrupted = false;
  const stop = (name: NodeJS.Signals) => {
    // Ctrl-C also ends the programs that read an output: that this closes is neither the first nor the second.
    if (name !== "SIGPIPE") {
      if (interrupted) process.exit(stoppedCode);
      interrupted = true;
    }
    controller.abort(reason());
  };
  for (const name of signals) process.on(name, stop);
  return {
    signal: controller.signal,
    [Symbol.dispose]() {
      for (const name of signals) process.off(name, stop);
    },
  };
}

/** Runs work with a signal that Ctrl-C aborts, and then throws a StoppedError of this message; a second Ctrl-C ends the process at once. */
export async function interruptible<T>(message: string | (() => string), work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  using interrupt = interruptSignal(() => new StoppedError(typeof message === "string" ? message : message()));
  const { signal } = interrupt;
  try {
    return await work(signal);
  } catch (error) {
    // What Node aborts, as a child process, throws an error of its own.
    throw error instanceof Error && error.name === "AbortError" && signal.aborted ? signal.reason : error;
  }
}
