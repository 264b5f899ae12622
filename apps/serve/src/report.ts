import type { Engine } from "@zaya/serve";
import pc from "picocolors";
import { formatBytes, formatCount } from "./format.js";

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
