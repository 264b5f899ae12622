/** A line that is rewritten in a terminal; elsewhere it is printed now and then. */
export interface ProgressLine {
  update(line: string): void;
  end(): void;
}

export function createProgressLine(stream: NodeJS.WriteStream = process.stderr, everyMilliseconds = 10_000): ProgressLine {
  let shown = false;
  let printedAt = Number.NEGATIVE_INFINITY;
  return {
    update(line) {
      if (stream.isTTY) {
        stream.write(`\r${line.slice(0, (stream.columns ?? 80) - 1)}\u001b[K`);
        shown = true;
      } else if (performance.now() - printedAt >= everyMilliseconds) {
        printedAt = performance.now();
        stream.write(`${line}\n`);
      }
    },
    end() {
      if (shown) stream.write("\r\u001b[K");
      shown = false;
    },
  };
}
