import { formatBytes } from "@zaya/kernels";
import type { Description } from "./describe.js";

/** A description in lines for people. @example console.log(formatDescription(describe(presets["zaya-512"]))); */
export function formatDescription(description: Description): string {
  const { parameters: p, flops, decodeBytes, state, memoryToServe, memoryToTrain } = description;
  const rows: readonly (readonly [string, string])[] = [
    ["parameters", `${grouped(p.total)} total, ${grouped(p.withoutEmbedding)} without embedding, ${grouped(p.active)} active a token`],
    [
      "  of these",
      `embedding ${grouped(p.embedding)}, head ${grouped(p.head)}, attention ${grouped(p.attention)}, router ${grouped(p.router)}, experts ${grouped(p.experts)}, other ${grouped(p.other)}`,
    ],
    [
      "tensors",
      `${description.tensors.transformers} (transformers layout)${description.tensors.original ? `, ${description.tensors.original} (original)` : ""}`,
    ],
    [`at ${grouped(description.context)} tokens`, ""],
    [
      "  training",
      `${giga(flops.training.total)} GFLOP a token (blocks ${giga(flops.training.blocks)}, head ${giga(flops.training.head)}, attention ${giga(flops.training.attention)})`,
    ],
    [
      "  decoding",
      `${giga(flops.decode.total)} GFLOP and ${formatBytes(decodeBytes.total)} a token (head ${formatBytes(decodeBytes.head)}, attention ${formatBytes(decodeBytes.attention)}, router ${formatBytes(decodeBytes.router)}, experts ${formatBytes(decodeBytes.experts)}, keys and values ${formatBytes(decodeBytes.keysAndValues)})`,
    ],
    [
      "  state",
      `${formatBytes(state.total)} a sequence (${formatBytes(state.keysAndValuesPerToken)} a token, convolution ${formatBytes(state.convolution)}, delayed value ${formatBytes(state.delayedValue)})`,
    ],
    ["memory to serve", formatBytes(memoryToServe.total)],
    ["memory to train", formatBytes(memoryToTrain.total)],
  ];
  return rows.map(([name, text]) => `${name.padEnd(17)}${text}`.trimEnd()).join("\n");
}

function grouped(n: number): string {
  return String(n).replace(/\B(?=(\d{3})+$)/g, " ");
}

function giga(flops: number): string {
  return (flops / 1e9).toPrecision(3);
}
