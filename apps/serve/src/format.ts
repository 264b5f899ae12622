/** "753 609 208" as "754 M". */
export function formatCount(count: number): string {
  const units = ["", " K", " M", " B"];
  let value = count;
  let unit = 0;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${unit === 0 ? value : value.toPrecision(3)}${units[unit]}`;
}
