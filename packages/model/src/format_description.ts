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
      `${giga(flops.decode.total)} GFLOP and ${bytes(decodeBytes.total)} a token (head ${bytes(decodeBytes.head)}, attention ${bytes(decodeBytes.attention)}, router ${bytes(decodeBytes.router)}, experts ${bytes(decodeBytes.experts)}, keys and values ${bytes(decodeBytes.keysAndValues)})`,
    ],
    [
      "  state",
      `${bytes(state.total)} a sequence (${bytes(state.keysAndValuesPerToken)} a token, convolution ${bytes(state.convolution)}, delayed value ${bytes(state.delayedValue)})`,
    ],
    ["memory to serve", bytes(memoryToServe.total)],
    ["memory to train", bytes(memoryToTrain.total)],
  ];
  return rows.map(([name, text]) => `${name.padEnd(17)}${text}`.trimEnd()).join("\n");
}

function grouped(n: number): string {
  return String(n).replace(/\B(?=(\d{3})+$)/g, " ");
}

function giga(flops: number): string {
  return (flops / 1e9).toPrecision(3);
}

function bytes(n: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  const unit = Math.min(units.length - 1, Math.max(0, Math.floor(Math.log10(Math.max(1, n)) / 3)));
  return `${unit === 0 ? n : (n / 1000 ** unit).toPrecision(3)} ${units[unit]}`;
}
