import { type DType, type TensorType, tensor } from "@zaya/kernels";
import type { ParameterSpec } from "./parameters.js";

/** What a checkpoint made for running holds: bfloat16, 8-bit or 4-bit matrices. */
export type RunKind = "bf16" | "q8" | "q4";

export interface RunTypes {
  /** Element type of the attention projections of `q4`. Default int8. */
  readonly attention?: "int8" | "int6" | "int4";
  /** Element type of the head, and so of the embedding it is tied to, of `q4`. Default int8. */
  readonly head?: "int8" | "int6" | "int4";
}

/**
 * Types under which a checkpoint made for running holds its parameters. Matrices lie in panels, the experts of `q4` in 4 bits. Router
 * and convolutions keep bfloat16, the precision they were published in; norms, biases, scales, temperatures and balancing biases float32.
 *
 * @example describe(config, { typeOf: runTypes("q4", { head: "int6" }) }).decodeBytes.total
 */
export function runTypes(kind: RunKind, { attention = "int8", head = "int8" }: RunTypes = {}): (spec: ParameterSpec) => TensorType {
  const matrices: Readonly<Record<RunKind, { attention: DType; head: DType; expert: DType }>> = {
    bf16: { attention: "bfloat16", head: "bfloat16", expert: "bfloat16" },
    q8: { attention: "int8", head: "int8", expert: "int8" },
    q4: { attention, head, expert: "int4" },
  };
  const types = matrices[kind];
  return ({ kind: role, name, shape }) => {
    if (role === "expert") return tensor(types.expert, shape, "panels");
    if (role === "matrix") return tensor(types.attention, shape, "panels");
    if (role === "embedding" || role === "head") return tensor(types.head, shape, "panels");
    return tensor(role === "router" || isConvolution(name) ? "bfloat16" : "float32", shape);
  };
}

function isConvolution(name: string): boolean {
  return /\.conv_qk_\w+\.weight$/.test(name);
}
