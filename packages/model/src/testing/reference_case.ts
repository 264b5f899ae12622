import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { onTestFinished } from "vitest";
import { openSafetensors } from "../safetensors.js";

const root = fileURLToPath(new URL("../../../../", import.meta.url));
const folders = [join(root, "packages/model/fixtures"), join(root, "../shared/cases"), ...(process.env.ZAYA_CASES?.split(":") ?? [])];

/**
 * Folders of cases made by the reference implementation: two recorded ones, those beside the repository where it has them, and any in the folders of
 * ZAYA_CASES (npm run conformance). Each holds a checkpoint, in `legacy` in the original layout, and what the reference makes of it.
 */
export const referenceCases: readonly string[] = folders.flatMap((folder) =>
  existsSync(folder)
    ? readdirSync(folder)
        .map((name) => join(folder, name))
        .filter((path) => existsSync(join(path, "expected.safetensors")))
    : [],
);

/** What the reference gives in one case; open until the running test is finished. */
export interface ReferenceCase {
  readonly names: readonly string[];
  shape(name: string): readonly number[];
  /** A float32 tensor. */
  numbers(name: string): Promise<Float32Array>;
  /** An int64 tensor. */
  integers(name: string): Promise<number[]>;
  readonly json: {
    readonly loss: number;
    readonly adamw: {
      readonly lr: number;
      readonly betas: readonly [number, number];
      readonly eps: number;
      readonly weight_decay: number;
      readonly losses: readonly number[];
    };
    readonly tolerance: {
      readonly logits_abs: number;
      readonly hidden_abs: number;
      readonly grad_rel: number;
      readonly loss_abs: number;
      readonly adamw_loss_abs: number;
    };
  };
}

export async function openReferenceCase(path: string): Promise<ReferenceCase> {
  const file = await openSafetensors(join(path, "expected.safetensors"));
  onTestFinished(() => file.close());
  return {
    names: [...file.tensors.keys()],
    shape: (name) => file.tensors.get(name)?.shape ?? [],
    async numbers(name) {
      const bytes = await file.read(name);
      return new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
    },
    async integers(name) {
      const bytes = await file.read(name);
      return Array.from(new BigInt64Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 8), Number);
    },
    json: JSON.parse(readFileSync(join(path, "expected.json"), "utf8")) as ReferenceCase["json"],
  };
}

/** B rows of T tokens as the ragged inputs of one step. */
export function raggedBatch(ids: readonly number[], batch: number): Record<"ids" | "positions" | "cu_seqlens", Int32Array> {
  const length = ids.length / batch;
  return {
    ids: Int32Array.from(ids),
    positions: Int32Array.from(ids, (_, i) => i % length),
    cu_seqlens: Int32Array.from({ length: batch + 1 }, (_, s) => s * length),
  };
}
