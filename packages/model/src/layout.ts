import type { ModelConfig } from "./config.js";
import { fail } from "./errors.js";
import { originalLayout } from "./original_layout.js";
import { parameters } from "./parameters.js";

/**
 * How a checkpoint names and cuts its tensors (original_layout.ts), or that they lie as the kernels read them (run_layout.ts).
 * The dense twin has no `original`.
 */
export type CheckpointLayout = "transformers" | "original" | "run";

/** Where a parameter lies in a checkpoint: one tensor, or several to be stacked. */
export interface ParameterSource {
  readonly names: readonly string[];
  readonly shape: readonly number[];
}

const marks: Readonly<Record<Exclude<CheckpointLayout, "run">, RegExp>> = {
  transformers: /^model\.norm\.|\.input_layernorm\.|\.qkv_proj\.|\.mlp\./,
  original: /^model\.final_norm\.|\.input_norm\.|\.qkv\.|\.zaya_block\./,
};

/**
 * The layout that the names of the tensors of a folder speak of.
 * @throws CHECKPOINT_INVALID when they speak of none or of both
 */
export function detectLayout(where: string, names: Iterable<string>): CheckpointLayout {
  const all = [...names];
  const transformers = all.find((name) => marks.transformers.test(name));
  const original = all.find((name) => marks.original.test(name));
  if (transformers !== undefined && original !== undefined) {
    fail("CHECKPOINT_INVALID", `${where}: names of both layouts: ${transformers} (transformers) and ${original} (original)`);
  }
  if (transformers !== undefined) return "transformers";
  if (original !== undefined) return "original";
  return fail(
    "CHECKPOINT_INVALID",
    all.length === 0
      ? `${where}: the checkpoint has no tensors`
      : `${where}: unknown layout: ${all[0]} is a name of neither transformers nor original ZAYA checkpoints`,
  );
}

/** Where each parameter lies, by its transformers name. */
export function sourcesOf(config: ModelConfig, layout: CheckpointLayout): ReadonlyMap<string, ParameterSource> {
  if (layout === "original" && config.kind === "zaya") return originalLayout(config);
  return new Map(parameters(config).map(({ name, shape }) => [name, { names: [name], shape }]));
}

const tied = 'the configured head is the embedding; remove the tensor, or set "tie_word_embeddings": false in config.json to use it';

/** What is wrong with a set of names: a line for every unknown and every missing tensor. */
export function nameProblems(names: Iterable<string>, sources: ReadonlyMap<string, ParameterSource>): readonly string[] {
  const expected = new Set([...sources.values()].flatMap((source) => source.names));
  const there = new Set(names);
  const unknown = [...there]
    .filter((name) => !expected.has(name))
    .map((name) => `unknown tensor ${name}: ${name === "lm_head.weight" ? tied : "the configured model has no such parameter"}`);
  const missing = [...expected].filter((name) => !there.has(name)).map((name) => `missing tensor ${name}`);
  return [...missing, ...unknown];
}

/** What is wrong with the shapes and types of tensors that are there. */
export function tensorProblems(
  tensors: ReadonlyMap<string, { readonly dtype: string; readonly shape: readonly number[] }>,
  sources: ReadonlyMap<string, ParameterSource>,
): readonly string[] {
  const problems: string[] = [];
  for (const source of sources.values()) {
    const first = tensors.get(source.names[0] as string);
    for (const name of source.names) {
      const tensor = tensors.get(name);
      if (!tensor) continue;
      if (tensor.shape.join() !== source.shape.join()) {
        problems.push(`mis-shaped tensor ${name}: expected [${source.shape.join(", ")}], received [${tensor.shape.join(", ")}]`);
      } else if (!isWeightType(tensor.dtype)) {
        problems.push(`tensor ${name} has type ${tensor.dtype}, expected F32, BF16 or F16`);
      } else if (first && tensor.dtype !== first.dtype) {
        problems.push(`tensor ${name} has type ${tensor.dtype}, the expert before it ${first.dtype}`);
      }
    }
  }
  return problems;
}

/** The element types that weights can have in a checkpoint. */
export type WeightType = "F32" | "BF16" | "F16";

export function isWeightType(dtype: string): dtype is WeightType {
  return dtype === "F32" || dtype === "BF16" || dtype === "F16";
}

/** Throws the first of several problems, telling how many there are. */
export function refuse(where: string, problems: readonly string[]): void {
  const [first, ...others] = problems;
  if (first !== undefined)
    fail("CHECKPOINT_INVALID", `${where}: ${first}${others.length > 0 ? ` (and ${others.length} more problems)` : ""}`);
}
