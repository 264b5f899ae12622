/** Learning rate over a run: linear warm-up to `peak`, then a cosine down to `peak · final`. */
export interface Schedule {
  readonly peak: number;
  /** Steps of warm-up. */
  readonly warmup: number;
  /** What remains of the peak at the end, as a fraction. */
  readonly final: number;
}

/**
 * The learning rate of a step. `step` counts from 1 (the first update); `progress` is how far the run is, 0 … 1, at this step.
 * The cosine starts where the warm-up ends: `warmed` is the progress at that point.
 */
export function learningRateAt({ peak, warmup, final }: Schedule, step: number, progress: number, warmed: number): number {
  if (step <= warmup) return (peak * step) / warmup;
  const along = warmed >= 1 ? 1 : Math.min(1, Math.max(0, (progress - warmed) / (1 - warmed)));
  return peak * (final + ((1 - final) * (1 + Math.cos(Math.PI * along))) / 2);
}
