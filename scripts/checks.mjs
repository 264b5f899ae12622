// A list of named checks: each runs, prints one line, and is counted; the counts go to a file that .ci/run sums up.
import { writeFileSync } from "node:fs";

const counts = { passed: 0, failed: 0 };

/** Runs one check. It fails by throwing; what it returns is printed beside its name. */
export async function check(name, body) {
  try {
    const detail = await body();
    counts.passed++;
    console.log(`ok    ${name}${detail ? `: ${detail}` : ""}`);
  } catch (error) {
    counts.failed++;
    console.log(`FAIL  ${name}\n${String(error.message ?? error).replace(/^/gm, "      ")}`);
  }
}

/** Writes the counts where --results says, and sets the exit code. */
export function finish() {
  const index = process.argv.indexOf("--results");
  if (index > 0) writeFileSync(process.argv[index + 1], JSON.stringify(counts));
  console.log(`${counts.passed} passed, ${counts.failed} failed`);
  process.exitCode = counts.failed > 0 ? 1 : 0;
}
