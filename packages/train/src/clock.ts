import type { ParsedOptions } from "./options.js";

/** Training time so far, and when the warm-up ended, in seconds. */
export interface ClockState {
  readonly elapsed: number;
  readonly warmed: number;
}

/** How far a run is: by steps, or by training time. */
export interface Clock {
  /** 0 … 1 at this step (counted from 1). */
  progress(step: number): number;
  /** Progress at which the warm-up ends. */
  warmed(): number;
  /** Whether a run that has done this many steps is at its end. */
  isOver(step: number): boolean;
  /** Counts the time of a step. */
  add(seconds: number, step: number): void;
  /** What a checkpoint keeps of it: nothing where the limit is in steps, so that equal steps give equal checkpoints. */
  state(): { readonly clock?: ClockState };
  /** An estimate from the last steps; null before the first. */
  secondsLeft(step: number): number | null;
}

/** Starts the clock of a run; one that is limited by time and goes on gives what `state` returned. */
export function createClock({ steps, seconds, warmup }: Pick<ParsedOptions, "steps" | "seconds" | "warmup">, saved?: ClockState): Clock {
  let { elapsed, warmed } = saved ?? { elapsed: 0, warmed: warmup === 0 ? 0 : 1 };
  let recent = 0; // seconds a step, averaged over about ten
  const progress = (step: number) => (steps !== undefined ? step / steps : elapsed / (seconds ?? 1));
  return {
    progress,
    warmed: () => (steps !== undefined ? warmup / steps : warmed / (seconds ?? 1)),
    isOver: (step) => (steps !== undefined ? step >= steps : elapsed >= (seconds ?? 0)),
    add(spent, step) {
      elapsed += spent;
      recent = recent === 0 ? spent : 0.9 * recent + 0.1 * spent;
      if (step <= warmup) warmed = elapsed;
    },
    state: () => (steps !== undefined ? {} : { clock: { elapsed, warmed } }),
    secondsLeft(step) {
      if (steps === undefined) return Math.max(0, (seconds ?? 0) - elapsed);
      return recent === 0 ? null : (steps - step) * recent;
    },
  };
}
