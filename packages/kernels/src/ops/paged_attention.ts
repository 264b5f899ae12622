import { elements, expectActivation } from "../activation.js";
import { expectFixed, expectRank, expectShape } from "../check.js";
import { ZayaError } from "../errors.js";
import { apply, type Value } from "../graph.js";
import type { Operation } from "../operation.js";
import { type Dimension, type DType, plus, type TensorType, tensor } from "../types.js";
import { expectGroups, expectWindow } from "./attention.js";

/** Tokens of one page of a key/value cache, which is the key block of the attention kernels. */
export const pageTokens = 32;

/**
 * Types of the pages of a key/value cache: keys [P,K,H',32] and values [P,K,32,H'], in an order of their own within a page
 * (native/cpu/attention_pages.h). H' = H, but H + 4 in int8 pages, where every key and every value carries a float32 step.
 */
export function kvPages(dtype: DType, pages: Dimension, heads: Dimension, head: number): { keys: TensorType; values: TensorType } {
  const width = dtype === "int8" ? head + 4 : head;
  return { keys: tensor(dtype, [pages, heads, width, pageTokens]), values: tensor(dtype, [pages, heads, pageTokens, width]) };
}

/**
 * Attention of the rows of this step over cached keys and values, which already include the rows' own:
 *   q [T,N,H], k_pages, v_pages as {@link kvPages} says, cu_seqlens [S+1], cached [S], page_table [S,M] → o [T,N,H]
 * Row t of sequence s has position cached[s] + t − cu_seqlens[s]; keys 32i … 32i+31 of s are in page page_table[s][i]. The formula is
 * that of `attention`. With bfloat16 pages the operands of both products are rounded to bfloat16, with int8 pages to 8-bit integers with
 * a step a row; sums are float32. Entries of page_table that no row of the step looks at may hold anything.
 */
export const pagedAttentionOperation: Operation = {
  name: "paged_attention",
  attributes: ["scale", "window"],
  infer: ([q, kPages, vPages, cuSeqlens, cached, pageTable], { window }) => {
    expectWindow("paged_attention", window);
    const type = expectRank("paged_attention", "q", expectActivation("paged_attention", "q", q), 3);
    const keys = expectPages("paged_attention", type, [kPages, vPages]);
    expectGroups("paged_attention", type, keys);
    expectPageTable("paged_attention", [cuSeqlens, cached, pageTable]);
    return [type];
  },
  flops: ({ inputs }, { window = 0 }) => 4 * elements(inputs[0]) * keysSeen(inputs[5], window),
};

/**
 * Writes the keys and values of the rows of this step at their positions: k, v [T,K,H] into k_pages, v_pages, rounded to the type of
 * the pages (int8: each row by its own step, the largest of its numbers becoming ±127) → k_pages', v_pages'. Sequences must not share a
 * page that a row is written to.
 */
export const kvAppendOperation: Operation = {
  name: "kv_append",
  infer: ([kPages, vPages, k, v, cuSeqlens, cached, pageTable]) => {
    const type = expectRank("kv_append", "k", expectActivation("kv_append", "k", k), 3);
    expectShape("kv_append", "v", v, type.shape, [type.dtype]);
    const keys = expectPages("kv_append", type, [kPages, vPages]);
    expectShape("kv_append", "k", type, [type.shape[0] as Dimension, keys.shape[1] as Dimension, type.shape[2] as Dimension]);
    expectPageTable("kv_append", [cuSeqlens, cached, pageTable]);
    return [keys, vPages as TensorType];
  },
  // The cache is not read; only the new rows are.
  bytes: ({ inputs }) => 16 * elements(inputs[2]),
  inPlace: [
    [0, 0],
    [1, 1],
  ],
  appends: true,
};

/** Checks k_pages and v_pages beside x [T,·,H]; the type of k_pages. */
function expectPages(operation: string, x: TensorType, [kPages, vPages]: readonly (TensorType | null | undefined)[]): TensorType {
  const types = x.dtype === "float64" ? (["float64"] as const) : (["float32", "bfloat16", "int8"] as const);
  const { dtype, shape } = expectRank(operation, "k_pages", kPages, 4, types);
  const head = expectFixed(operation, "the head size", x.shape[2]);
  const unit = dtype === "int8" ? 4 : dtype === "bfloat16" ? 2 : 1;
  if (head % unit !== 0)
    throw new ZayaError("SHAPE_MISMATCH", `[${operation}] expected a head size that ${unit} divides for ${dtype} pages, received ${head}`);
  const { keys, values } = kvPages(dtype, shape[0] as Dimension, shape[1] as Dimension, head);
  expectShape(operation, "k_pages", kPages, keys.shape);
  expectShape(operation, "v_pages", expectRank(operation, "v_pages", vPages, 4, [dtype]), values.shape);
  return keys;
}

function expectPageTable(operation: string, [cuSeqlens, cached, pageTable]: readonly (TensorType | null | undefined)[]): void {
  const sequences = plus(expectRank(operation, "cu_seqlens", cuSeqlens, 1, ["int32"]).shape[0] as Dimension, -1);
  expectShape(operation, "cached", expectRank(operation, "cached", cached, 1, ["int32"]), [sequences]);
  const table = expectRank(operation, "page_table", pageTable, 2, ["int32"]);
  expectShape(operation, "page_table", table, [sequences, table.shape[1] as Dimension]);
}

/** Keys a row sees at most: cached lengths are data, so the page table is taken as full. */
function keysSeen(pageTable: readonly number[] | null | undefined, window: number): number {
  const keys = pageTokens * (pageTable?.[1] ?? 0);
  return window > 0 ? Math.min(window, keys) : keys;
}

/**
 * Attention of q [T,N,H] over the pages of each sequence; see {@link pagedAttentionOperation}. Call it on what {@link kvAppend} returns.
 *
 * @param options.scale factor of the scores, 1/√H unless given
 * @param options.window tokens a token sees, itself included; 0 (unless given) means all before it
 * @throws SHAPE_MISMATCH; INVALID_ARGUMENT for a window that is no whole number ≥ 0; at `run`, KERNEL_FAILED when page_table leads out of the pages or a sequence outgrows it
 */
export function pagedAttention(
  q: Value,
  kPages: Value,
  vPages: Value,
  cuSeqlens: Value,
  cached: Value,
  pageTable: Value,
  {
    scale = 1 / Math.sqrt(expectFixed("paged_attention", "the head size", q.type.shape[2])),
    window = 0,
  }: { scale?: number; window?: number } = {},
): Value {
  return apply(pagedAttentionOperation, [q, kPages, vPages, cuSeqlens, cached, pageTable], { scale, window })[0] as Value;
}

/**
 * The pages after the keys and values k, v [T,K,H] of this step; see {@link kvAppendOperation}.
 *
 * @throws SHAPE_MISMATCH; at `run`, KERNEL_FAILED, with nothing written, when page_table leads out of the pages or a sequence outgrows it
 */
export function kvAppend(
  kPages: Value,
  vPages: Value,
  k: Value,
  v: Value,
  cuSeqlens: Value,
  cached: Value,
  pageTable: Value,
): { keys: Value; values: Value } {
  const [keys, values] = apply(kvAppendOperation, [kPages, vPages, k, v, cuSeqlens, cached, pageTable]);
  return { keys: keys as Value, values: values as Value };
}
