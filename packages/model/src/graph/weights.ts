import { type DType, type Graph, type TensorType, tensor, type Value } from "@zaya/kernels";
import type { ModelConfig } from "../config.js";
import { type ParameterSpec, parameters } from "../parameters.js";

/** How the parameters lie in the store. */
export interface WeightStorage {
  /** Element type of the matrices. Vectors, convolutions and the whole router are float32 (float64 with float64). */
  readonly dtype: "float32" | "bfloat16" | "float64";
  /** Layout of the matrices: "panels" is what generation reads, "plain" what training updates. */
  readonly encoding: "plain" | "panels";
  /** Types that are given, by name, as those of a run-layout checkpoint are (`checkpoint.weights`); they come before the rule. */
  readonly types?: ReadonlyMap<string, TensorType> | undefined;
}

/** Matrices that run in the computing type; everything else keeps full precision: a rounded router chooses other experts. */
const computed = new Set<ParameterSpec["kind"]>(["embedding", "head", "matrix", "expert"]);

/** The type under which a parameter is stored: the one rule that loading and the graph share. */
export function storedType(spec: ParameterSpec, { dtype, encoding, types }: WeightStorage): TensorType {
  const given = types?.get(spec.name);
  if (given) return given;
  if (computed.has(spec.kind)) return tensor(dtype, spec.shape, encoding);
  const precise: DType = dtype === "float64" ? "float64" : "float32";
  if (spec.kind === "router") return tensor(precise, spec.shape, encoding);
  if (spec.kind === "convolution" && encoding === "panels") return tensor(precise, matricesOfGroups(spec.shape), encoding);
  return tensor(precise, spec.shape);
}

/** The grouped convolution [C,H,2] as the matrices of its C/H groups, [C/H,H,2H]: the same elements in the same order. */
export function matricesOfGroups([channels = 0, width = 1, taps = 1]: readonly number[]): readonly number[] {
  return [channels / width, width, width * taps];
}

/** Reads parameters of the store by name, as graph values. */
export function weightReader(graph: Graph, config: ModelConfig, storage: WeightStorage): (name: string) => Value {
  const specs = new Map(parameters(config).map((spec) => [spec.name, spec]));
  return (name) => {
    const spec = specs.get(name);
    if (!spec) throw new Error(`the model has no parameter ${name}`);
    return graph.read(name, storedType(spec, storage));
  };
}
