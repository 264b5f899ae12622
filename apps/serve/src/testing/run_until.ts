// node run_until.cjs <limit> <folder> <words…>: zaya-serve with these words, killed (SIGKILL) after `limit` bytes of what it writes below the folder.
// The last line of stderr is how many it counted.
import { killAfter } from "../../../../packages/model/src/testing/kill_after.js";

async function main(): Promise<void> {
  const [limit, folder = "", ...words] = process.argv.slice(2);
  const counter = killAfter(Number(limit), folder);
  const { runProgram } = await import("../program.js");
  process.exitCode = await runProgram(words);
  process.stderr.write(`${counter.count()}\n`);
}

void main();
