import { stat } from "node:fs/promises";
import { InputError } from "./exit.js";

/** Refuses words that begin like a command but with no command's name: the default command would take it for a model. */
export async function expectCommand(words: readonly string[], names: readonly string[]): Promise<void> {
  const [first = "", second = "-"] = words;
  if (!/^[A-Za-z]+$/.test(first) || names.includes(first) || (await stat(first).catch(() => null))) return;
  const nearest = names.reduce((a, b) => (distance(first, b) < distance(first, a) ? b : a));
  if (distance(first, nearest) <= 2) throw new InputError(`there is no command and no folder ${first}; did you mean ${nearest}?`);
  if (!second.startsWith("-")) throw new InputError(`there is no command and no folder ${first}; the commands are ${names.join(", ")}`);
}

/** How many letters have to be put in, left out or changed to make one word of the other. */
function distance(from: string, to: string): number {
  let row = Array.from({ length: to.length + 1 }, (_, i) => i);
  for (const [i, letter] of [...from].entries()) {
    const next = [i + 1];
    for (let j = 0; j < to.length; j++)
      next.push(Math.min((row[j] as number) + Number(letter !== to[j]), (row[j + 1] as number) + 1, (next[j] as number) + 1));
    row = next;
  }
  return row[to.length] as number;
}
