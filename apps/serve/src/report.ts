import { formatBytes } from "@zaya/kernels";
import type { Engine, EngineMemory, ExpectedSpeed, WeightProducts } from "@zaya/serve";
import pc from "picocolors";
import { formatCount } from "./format.js";

/** What was loaded, on which kernels and why, what it takes, and how fast it can be. */
export function describeEngine({ model, stats }: Engine): string {
  const { memory, slotsTotal, pagesTotal } = stats();
  const total = memory.weights + memory.mapped + memory.cache + memory.step;
  const parameters = `${formatCount(model.totalParameters)} parameters, ${formatCount(model.activeParameters)} active`;
  return [
    `${pc.bold(model.id)}  ${parameters}`,
    `kernels ${model.isa} on ${model.threads} thread${model.threads === 1 ? "" : "s"} (${model.isaReason}); types of weights: ${model.typesReason}, of keys and values: ${model.cacheDtype}`,
    ...describeProducts(model.products),
    `memory up to ${formatBytes(total)} (${describeMemory(memory)}) · context ${model.contextTokens} tokens, ${slotsTotal} request${slotsTotal === 1 ? "" : "s"} at once, ${pagesTotal} pages`,
    ...(model.expected ? [describeExpected(model.expected)] : []),
  ].join("\n");
}

/** "weights 5.50 GB mapped (100 % in huge pages), cache 168 MB, step 33.5 MB" */
export function describeMemory({ weights, mapped, mappedHuge, cache, step }: EngineMemory): string {
  const own = weights > 0 ? [formatBytes(weights)] : [];
  const pages = mappedHuge === null ? "" : ` (${Math.round((100 * mappedHuge) / mapped)} % in huge pages)`;
  const shared = mapped > 0 ? [`${formatBytes(mapped)} mapped${pages}`] : [];
  return `weights ${[...own, ...shared].join(" and ")}, cache ${formatBytes(cache)}, step ${formatBytes(step)}`;
}

/**
 * A line for each type that operands are multiplied as: "  int8 products, vpdpbusd: projections int8 (cca_project, linear), experts int4 (experts)".
 * Weights come in their own type and are unpacked on the way, activations are rounded.
 */
export function describeProducts(products: readonly WeightProducts[]): string[] {
  const lines = new Map<string, string[]>();
  for (const { weights, stored, operands, instruction, operations } of products) {
    const line = `  ${operands} products, ${instruction}`;
    lines.set(line, [...(lines.get(line) ?? []), `${weights} ${stored} (${operations.join(", ")})`]);
  }
  return [...lines].map(([line, weights]) => `${line}: ${weights.join(", ")}`);
}

/** Reading the weights of a token takes this long at least: "expected ≤ 27.4 tokens/s (1.13 GB a token at 31.0 GB/s: head …)". */
function describeExpected({ decodeBytes, readBandwidth, tokensPerSecond }: ExpectedSpeed): string {
  const { total, keysAndValues: _, ...parts } = decodeBytes;
  const rate = tokensPerSecond < 100 ? tokensPerSecond.toPrecision(3) : Math.round(tokensPerSecond);
  const split = Object.entries(parts).map(([name, bytes]) => `${name} ${formatBytes(bytes)}`);
  return `expected ≤ ${rate} tokens/s for one request (${formatBytes(total)} a token at ${formatBytes(readBandwidth)}/s: ${split.join(", ")})`;
}
