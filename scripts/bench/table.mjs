const percent = (share) => (Number.isFinite(share) && share > 0 ? `${(100 * share).toFixed(share < 0.095 ? 1 : 0)} %` : "–");
const rate = (amount, seconds) => (amount > 0 ? (amount / seconds / 1e9).toPrecision(3) : "–");

/** Rows of the kernel table as text: time, operations and bytes a second, and what they are of the machine's limits. */
export function formatTable(rows) {
  const lines = [
    ["", "", "time", "spread", "Gop/s", "of peak", "GB/s", "of read"],
    ...rows.map(({ name, dtype, seconds, spread, flops, bytes, fractionOfPeak, fractionOfRead }) => [
      name,
      dtype,
      `${(1e6 * seconds).toPrecision(4)} µs`,
      `±${((50 * (spread[1] - spread[0])) / seconds).toFixed(0)} %`,
      rate(flops, seconds),
      percent(fractionOfPeak),
      rate(bytes, seconds),
      percent(fractionOfRead),
    ]),
  ];
  const widths = lines[0].map((_, i) => Math.max(...lines.map((line) => line[i].length)));
  return lines.map((line) => line.map((cell, i) => (i < 2 ? cell.padEnd(widths[i]) : cell.padStart(widths[i]))).join("  ")).join("\n");
}
