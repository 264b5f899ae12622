import type { Engine } from "@zaya/serve";
import pc from "picocolors";

/** "1.30 GB", "431 MB". */
export function formatBytes(bytes: number): string {
  const units = ["B", "KB", "MB", "GB", "TB"];
  let value = bytes;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${unit === 0 ? value : value.toPrecision(3)} ${units[unit]}`;
}

/** "753 609 208" as "754 M". */
function formatCount(count: number): string {
  const units = ["", " K", " M", " B"];
  let value = count;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${unit === 0 ? value : value.toPrecision(3)}${units[unit]}`;
}

/** Two lines about what was loaded and what it takes. */
export function describeEngine({ model, stats }: Engine): string {
  const { memory, slotsTotal, pagesTotal } = stats();
  const parameters = `${formatCount(model.totalParameters)} parameters, ${formatCount(model.activeParameters)} active`;
  const cached = model.cacheDtype === model.dtype ? "" : `, cache in ${model.cacheDtype}`;
  const cores = `${model.dtype}${cached}, ${model.isa}, ${model.threads} thread${model.threads === 1 ? "" : "s"}`;
  const total = formatBytes(memory.weights + memory.cache + memory.step);
  const parts = `weights ${formatBytes(memory.weights)}, cache ${formatBytes(memory.cache)}, step ${formatBytes(memory.step)}`;
  return [
    `${pc.bold(model.id)}  ${parameters} · ${cores}`,
    `memory ${total} (${parts}) · context ${model.contextTokens} tokens, ${slotsTotal} request${slotsTotal === 1 ? "" : "s"} at once, ${pagesTotal} pages`,
  ].join("\n");
}
