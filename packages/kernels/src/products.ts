import type { Node } from "./graph.js";
import { type DType, isQuantised, type TensorType } from "./types.js";

/** What both operands of a product are multiplied as. */
export type Operands = "float32" | "bfloat16" | "int8";

/** A product with a matrix of the store that lies in panels, as an executable computes it. */
export interface MatrixProduct {
  /** The operation whose kernel computes it. */
  readonly operation: string;
  /** The matrix, by its name in the store, and the type of its elements there. */
  readonly weight: string;
  readonly stored: DType;
  readonly operands: Operands;
  /** What multiplies them in this device's kernels, such as "vpdpbusd". */
  readonly instruction: string;
}

/** The products of a plan's steps, in the order in which they run. float64, which only checks use, is left out. */
export function matrixProducts(steps: readonly Node[], instructions: Readonly<Record<Operands, string>>): MatrixProduct[] {
  return steps.flatMap(({ name, operation, inputs, attributes }) =>
    inputs.flatMap((input): MatrixProduct[] => {
      // An operation without FLOPs, such as the embedding, only copies rows.
      if (input?.node.kind !== "read" || input.type.encoding !== "panels" || !operation?.flops) return [];
      const operands = operandsOf(input.type, attributes.compute === 1);
      if (operands === null) return [];
      return [{ operation: name, weight: input.node.name, stored: input.type.dtype, operands, instruction: instructions[operands] }];
    }),
  );
}

/** Integers are multiplied as such; everything else is rounded to bfloat16 where the operation asks for it (its attribute `compute`). */
function operandsOf(weight: TensorType, rounds: boolean): Operands | null {
  if (isQuantised(weight)) return "int8";
  if (weight.dtype === "float64") return null;
  return rounds ? "bfloat16" : "float32";
}
