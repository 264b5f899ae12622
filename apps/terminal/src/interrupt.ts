/** The exit code of work that was stopped. */
export const stoppedCode = 4;

/** What a signal of the user ended before its end, told in one line. */
export class StoppedError extends Error {}

const signals = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/**
 * Whether a signal is neither the first nor the second of a person: SIGPIPE, as Ctrl-C also ends the programs that read an output, and SIGHUP, which a
 * terminal that closes sends more than once, also after SIGTERM.
 */
const comesAlong = (name: NodeJS.Signals) => name === "SIGPIPE" || name === "SIGHUP";

/**
 * A signal that Ctrl-C or SIGTERM aborts, or a terminal or the reader of an output that goes, until it is disposed; a second Ctrl-C or SIGTERM ends the
 * process at once.
 * reason makes the reason of the abort when it comes to that, of the name of what came.
 */
export function interruptSignal(reason: (name: NodeJS.Signals) => Error): Disposable & { readonly signal: AbortSignal } {
  const controller = new AbortController();
  let interrupted = false;
  const stop = (name: NodeJS.Signals) => {
    if (!comesAlong(name)) {
      if (interrupted) process.exit(stoppedCode);
      interrupted = true;
    }
    controller.abort(reason(name));
  };
  for (const name of signals) process.on(name, stop);
  return {
    signal: controller.signal,
    [Symbol.dispose]() {
      for (const name of signals) process.off(name, stop);
    },
  };
}

/** Runs work with such a signal, and throws a StoppedError of this message where it was aborted. */
export async function interruptible<T>(message: string, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  using interrupt = interruptSignal(() => new StoppedError(message));
  const { signal } = interrupt;
  try {
    return await work(signal);
  } catch (error) {
    // What Node aborts, as a child process, throws an error of its own.
    throw error instanceof Error && error.name === "AbortError" && signal.aborted ? signal.reason : error;
  }
}

/** The name of the next signal: SIGINT, SIGTERM, SIGHUP, or SIGPIPE for the reader of an output that goes. */
export function nextSignal(): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    const listen = (name: NodeJS.Signals) => {
      for (const signal of signals) process.off(signal, listen);
      resolve(name);
    };
    for (const signal of signals) process.on(signal, listen);
  });
}

/** Resolves at the second signal of a person. */
export async function signalAgain(first: NodeJS.Signals): Promise<void> {
  for (let left = comesAlong(first) ? 2 : 1; left > 0; ) if (!comesAlong(await nextSignal())) left--;
}
