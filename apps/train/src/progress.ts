import type { StepEnd } from "@zaya/train";
import { formatSeconds } from "../../terminal/src/format_seconds.js";
import { formatCount } from "./format.js";

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
