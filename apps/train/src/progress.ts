import type { StepEnd } from "@zaya/train";
import { formatCount, formatSeconds } from "./format.js";

/** "step 120/400  loss 2.345  1.9 k tokens/s  54 % of peak  load 1.21  3 min 05 s left" */
export function progressLine(event: StepEnd, steps: number | null): string {
  return [
    `step ${event.step}${steps === null ? "" : `/${steps}`}`,
    `loss ${event.loss.toFixed(4)}`,
    `${formatCount(event.tokensPerSecond)} tokens/s`,
    `${(100 * event.utilisation).toFixed(0)} % of peak`,
    ...(event.maxMeanExpertLoad === null ? [] : [`load ${event.maxMeanExpertLoad.toFixed(2)}`]),
    ...(event.secondsLeft === null ? [] : [`${formatSeconds(event.secondsLeft)} left`]),
  ].join("  ");
}

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
