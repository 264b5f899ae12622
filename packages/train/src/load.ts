/** How evenly tokens went to experts: the busiest over the mean expert in the worst layer, and the share that skipped. Null without experts. */
export function expertLoad(counts: readonly ArrayLike<number>[]): { maxMeanExpertLoad: number | null; skipFraction: number | null } {
  if (counts.length === 0) return { maxMeanExpertLoad: null, skipFraction: null };
  let worst = 0;
  let skipped = 0;
  let total = 0;
  for (const layer of counts) {
    const tokens = Array.from(layer);
    const skips = tokens.pop() ?? 0;
    const routed = tokens.reduce((sum, n) => sum + n, 0);
    if (routed > 0) worst = Math.max(worst, (Math.max(...tokens) * tokens.length) / routed);
    skipped += skips;
    total += routed + skips;
  }
  return { maxMeanExpertLoad: worst, skipFraction: total > 0 ? skipped / total : 0 };
}
