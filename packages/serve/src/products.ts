import type { MatrixProduct, Operands } from "@zaya/kernels";
import { type ModelConfig, type ParameterKind, parameters } from "@zaya/model";

/** How a step multiplies activations by one kind of weights. */
export interface WeightProducts {
  readonly weights: (typeof kindNames)[keyof typeof kindNames];
  /** Element type that the weights are kept as. */
  readonly stored: string;
  /** What weights and activations are multiplied as; sums are float32, of int8 exact. */
  readonly operands: Operands;
  /** What multiplies them, such as "vpdpbusd". */
  readonly instruction: string;
  /** The operations whose kernels do it. */
  readonly operations: readonly string[];
}

const kindNames = {
  embedding: "head", // the matrix that both share
  head: "head",
  matrix: "projections",
  expert: "experts",
  router: "router",
  convolution: "convolutions",
} as const satisfies Partial<Record<ParameterKind, string>>;

/** The products of a compiled step by the kind of their weights, in the order in which they first run. */
export function weightProducts(config: ModelConfig, products: readonly MatrixProduct[]): WeightProducts[] {
  const kinds = new Map(parameters(config).map(({ name, kind }) => [name, kind]));
  const groups = new Map<string, WeightProducts & { readonly operations: string[] }>();
  for (const { operation, weight, stored, operands, instruction } of products) {
    const weights = kindNames[kinds.get(weight) as keyof typeof kindNames];
    const key = [weights, stored, operands].join(" ");
    const group = groups.get(key) ?? { weights, stored, operands, instruction, operations: [] };
    if (!group.operations.includes(operation)) group.operations.push(operation);
    groups.set(key, group);
  }
  return [...groups.values()];
}
