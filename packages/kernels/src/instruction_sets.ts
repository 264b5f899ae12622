import type { InstructionSet } from "./native.js";
import type { Operands } from "./products.js";

/** What the addon knows of a set of kernels: whether this build has it, and what this processor lacks for it. */
export interface InstructionSetInfo {
  readonly name: InstructionSet;
  readonly built: boolean;
  /** Features by the names that compilers give them. */
  readonly missing: readonly string[];
  /** What multiplies operands of each type. */
  readonly instructions: Readonly<Record<Operands, string>>;
}

/** Why `chosen` was taken, of sets with the best last: "the best of this processor; no avx512: it lacks avx512bf16". */
export function whyBest(sets: readonly InstructionSetInfo[], chosen: InstructionSet): string {
  const better = sets.slice(sets.findIndex(({ name }) => name === chosen) + 1).reverse();
  const reasons = better.map(({ name, built, missing }) => `no ${name}: ${built ? `it lacks ${missing.join(", ")}` : "not in this build"}`);
  return ["the best of this processor", ...reasons].join("; ");
}
