// Speed of this checkout on this machine. Peaks and bandwidth are measured beside every figure, since the machine's own speed may change from second to
// second: what is to be compared are the shares of them.
import { parseArgs } from "node:util";
import { badInput } from "./bench/bad_input.mjs";

const parts = { kernels: "the kernel table (default)", peers: "llama.cpp and transformers beside a checkpoint" };
const [first = "kernels", ...rest] = process.argv.slice(2);
const named = first in parts;
const part = await import(`./bench/${named ? first : "kernels"}.mjs`);
const help = `${part.help}

Parts: ${Object.entries(parts)
  .map(([name, what]) => `${name}: ${what}`)
  .join("; ")}.
A training step: zaya-train bench. Reading and generating with a checkpoint: zaya-serve bench.`;

try {
  const args = named ? rest : process.argv.slice(2);
  const flags = { json: { type: "boolean", default: false }, help: { type: "boolean", short: "h", default: false } };
  const { values } = parseArgs({ args, options: { ...part.options, ...flags } });
  if (values.help) console.log(help);
  else await part.run({ ...values, ...wholeNumbers(values, ["repetitions", "threads"]) });
} catch (error) {
  const { isZayaError } = await import("@zaya/kernels");
  if (!isZayaError(error) && !error.code?.startsWith("ERR_PARSE_ARGS") && error.code !== "BAD_INPUT") throw error;
  console.error(`bench: ${error.message}`);
  process.exitCode = 2;
}

/** These flags as numbers, of those that were given. */
function wholeNumbers(values, names) {
  const given = names.filter((name) => values[name] !== undefined);
  return Object.fromEntries(
    given.map((name) => {
      if (!/^[1-9]\d{0,5}$/.test(values[name])) throw badInput(`--${name}: expected a whole number from 1 on, received ${values[name]}`);
      return [name, Number(values[name])];
    }),
  );
}
