import type { Engine, EngineMemory, ExpectedSpeed, WeightTypes } from "@zaya/serve";
import pc from "picocolors";
import { formatBytes, formatCount } from "./format.js";

/** What was loaded, on which kernels and why, what it takes, and how fast it can be. */
export function describeEngine({ model, stats }: Engine): string {
  const { memory, slotsTotal, pagesTotal } = stats();
  const total = Object.values(memory).reduce((sum, bytes) => sum + bytes, 0);
  const parameters = `${formatCount(model.totalParameters)} parameters, ${formatCount(model.activeParameters)} active`;
  return [
    `${pc.bold(model.id)}  ${parameters} · ${describeWeights(model.weightTypes)}, cache ${model.cacheDtype}`,
    `kernels ${model.isa} on ${model.threads} thread${model.threads === 1 ? "" : "s"} (${model.isaReason})`,
    `memory ${formatBytes(total)} (${describeMemory(memory)}) · context ${model.contextTokens} tokens, ${slotsTotal} request${slotsTotal === 1 ? "" : "s"} at once, ${pagesTotal} pages`,
    ...(model.expected ? [describeExpected(model.expected)] : []),
  ].join("\n");
}

/** "weights 5.50 GB mapped, cache 168 MB, step 33.5 MB" */
export function describeMemory({ weights, mapped, cache, step }: EngineMemory): string {
  const own = weights > 0 ? [formatBytes(weights)] : [];
  const shared = mapped > 0 ? [`${formatBytes(mapped)} mapped`] : [];
  return `weights ${[...own, ...shared].join(" and ")}, cache ${formatBytes(cache)}, step ${formatBytes(step)}`;
}

/** "bfloat16", or "experts int4, attention and head int8". */
function describeWeights(types: WeightTypes): string {
  const names = new Map<string, string[]>();
  for (const [name, type] of Object.entries(types)) names.set(type, [...(names.get(type) ?? []), name]);
  const [only, another] = names.keys();
  return another === undefined ? `${only}` : [...names].map(([type, each]) => `${each.join(" and ")} ${type}`).join(", ");
}

/** Reading the weights of a token takes this long at least: "expected ≤ 27.4 tokens/s (1.13 GB a token at 31.0 GB/s: head …)". */
function describeExpected({ decodeBytes, readBandwidth, tokensPerSecond }: ExpectedSpeed): string {
  const { total, keysAndValues: _, ...parts } = decodeBytes;
  const rate = tokensPerSecond < 100 ? tokensPerSecond.toPrecision(3) : Math.round(tokensPerSecond);
  const split = Object.entries(parts).map(([name, bytes]) => `${name} ${formatBytes(bytes)}`);
  return `expected ≤ ${rate} tokens/s for one request (${formatBytes(total)} a token at ${formatBytes(readBandwidth)}/s: ${split.join(", ")})`;
}
