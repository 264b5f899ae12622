/** A line that is rewritten in a terminal; elsewhere it is printed now and then. */
export interface ProgressLine {
  update(line: string): void;
  /** A line that stays. */
  print(line: string): void;
  end(): void;
}

export function createProgressLine(stream: NodeJS.WriteStream = process.stderr, everyMilliseconds = 10_000): ProgressLine {
  let shown = "";
  let printedAt = Number.NEGATIVE_INFINITY;
  const clear = () => {
    if (shown !== "") stream.write("\r\u001b[K");
    shown = "";
  };
  return {
    update(line) {
      if (stream.isTTY) {
        clear();
        shown = line.slice(0, (stream.columns ?? 80) - 1);
        stream.write(shown);
      } else if (performance.now() - printedAt >= everyMilliseconds) {
        printedAt = performance.now();
        stream.write(`${line}\n`);
      }
    },
    print(line) {
      clear();
      stream.write(`${line}\n`);
    },
    end: clear,
  };
}
