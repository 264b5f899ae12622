/** "1.23 M", "456 k": three digits that matter. */
export function formatCount(n: number): string {
  for (const [size, unit] of [
    [1e12, "T"],
    [1e9, "G"],
    [1e6, "M"],
    [1e3, "k"],
  ] as const) {
    if (Math.abs(n) >= 0.9995 * size) return `${(n / size).toPrecision(3)} ${unit}`;
  }
  return String(Math.round(n));
}
