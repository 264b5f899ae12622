const units = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];

/** Bytes for people: three digits that matter, in powers of ten. @example formatBytes(5.5e9) // "5.50 GB" */
export function formatBytes(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${unit === 0 ? Math.round(value) : value.toPrecision(3)} ${units[unit]}`;
}
