import { type DType, type TensorType, tensor } from "@zaya/kernels";
import { fail } from "./errors.js";
import { matricesOfGroups } from "./graph/weights.js";
import type { ParameterSpec } from "./parameters.js";

/** What a checkpoint made for running holds: bfloat16, 8-bit or 4-bit matrices. */
export type RunKind = "bf16" | "q8" | "q4";
export const runKinds: readonly RunKind[] = ["bf16", "q8", "q4"];

export interface RunTypes {
  /** Element type of the attention projections of `q4`. Default int8. */
  readonly attention?: "int8" | "int6" | "int4";
  /** Element type of the head, and so of the embedding it is tied to, of `q4`. Default int8. */
  readonly head?: "int8" | "int6" | "int4";
}

/**
 * Types under which a checkpoint made for running holds its parameters. Matrices lie in panels, the experts of `q4` in 4 bits. Router
 * and grouped convolutions keep bfloat16, the precision they were published in; everything small is float32.
 *
 * @throws INVALID_ARGUMENT for another kind or type
 * @example describe(config, { typeOf: runTypes("q4", { head: "int6" }) }).decodeBytes.total
 */
export function runTypes(kind: RunKind, { attention = "int8", head = "int8" }: RunTypes = {}): (spec: ParameterSpec) => TensorType {
  expectOneOf("the kind", kind, runKinds);
  expectOneOf("attention", attention, ["int8", "int6", "int4"]);
  expectOneOf("head", head, ["int8", "int6", "int4"]);
  const matrices: Readonly<Record<RunKind, { attention: DType; head: DType; expert: DType }>> = {
    bf16: { attention: "bfloat16", head: "bfloat16", expert: "bfloat16" },
    q8: { attention: "int8", head: "int8", expert: "int8" },
    q4: { attention, head, expert: "int4" },
  };
  const types = matrices[kind];
  return ({ kind: role, shape }) => {
    if (role === "expert") return tensor(types.expert, shape, "panels");
    if (role === "matrix") return tensor(types.attention, shape, "panels");
    if (role === "embedding" || role === "head") return tensor(types.head, shape, "panels");
    if (role === "router") return tensor("bfloat16", shape, "panels");
    if (role === "convolution") return tensor("bfloat16", matricesOfGroups(shape), "panels");
    return tensor("float32", shape);
  };
}

function expectOneOf<T extends string>(what: string, value: T, known: readonly T[]): void {
  if (!known.includes(value)) fail("INVALID_ARGUMENT", `${what} is one of ${known.join(", ")}, received ${String(value)}`);
}
