import { createInterface, type Key } from "node:readline";

const bracketedPaste = { begin: "\x1b[?2004h", end: "\x1b[?2004l" };

/** What a person types at a terminal, message by message. */
export interface MessageReader extends Disposable {
  /** The next message: a line, or all lines of a paste and what follows it until Enter; null after Ctrl-C, at the end of input, and once the signal is aborted. */
  next(signal?: AbortSignal): Promise<string | null>;
}

/** Reads messages from a terminal. Lines that come faster than they are asked for wait their turn; between two calls Ctrl-C is a signal. */
export function openMessageReader(prompt: string, input: NodeJS.ReadStream, output: NodeJS.WritableStream): MessageReader {
  const terminal = createInterface({ input, output, prompt, terminal: true });
  const messages: string[] = [];
  let lines: string[] = [];
  let pasting = false;
  let ended = false;
  let wake = () => {};
  const watchPaste = (_: unknown, { name }: Key) => {
    if (name === "paste-start") pasting = true;
    if (name === "paste-end") pasting = false;
  };
  input.on("keypress", watchPaste);
  terminal.on("line", (line) => {
    lines.push(line);
    if (pasting) return;
    messages.push(lines.join("\n").trimEnd());
    lines = [];
    wake();
  });
  terminal.on("SIGINT", () => terminal.close());
  terminal.on("close", () => {
    ended = true;
    wake();
  });
  const rest = () => {
    if (!ended) terminal.pause();
    input.setRawMode?.(false);
  };
  output.write(bracketedPaste.begin);
  rest();
  return {
    async next(signal) {
      const early = messages.shift();
      if (early !== undefined) {
        output.write(`${prompt}${early}\n`);
        return early;
      }
      if (ended) return null;
      input.setRawMode?.(true);
      terminal.prompt(true); // with what was typed meanwhile
      const close = () => terminal.close();
      signal?.addEventListener("abort", close, { once: true });
      while (messages.length === 0 && !ended) {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
      signal?.removeEventListener("abort", close);
      rest();
      if (ended) output.write("\n"); // Enter has not been pressed
      return messages.shift() ?? null;
    },
    [Symbol.dispose]() {
      terminal.close();
      input.off("keypress", watchPaste);
      output.write(bracketedPaste.end);
    },
  };
}
