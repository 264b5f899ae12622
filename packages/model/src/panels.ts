import { type DType, isQuantised, maxBytes, type TensorType, tensor } from "@zaya/kernels";
import { fail } from "./errors.js";

/** Rows of a panel: the weight's rows that lie interleaved, as many as the kernels compute columns at a time (native/cpu/gemm.h). */
const panelRows = 32;

/** Some rows of one matrix of a tensor, few enough to be made at once. */
export interface TensorPart {
  /** Counts the leading dimensions. */
  readonly matrix: number;
  /** First row in the matrix, a multiple of 32. */
  readonly row: number;
  readonly rows: number;
  readonly columns: number;
  /** Where its bytes lie in the tensor. */
  readonly offset: number;
  readonly bytes: number;
}

/** Cuts a tensor into parts of whole panels (or as many rows) of at most `maxElements`, at least one. They lie one after the other. */
export function* tensorParts({ dtype, shape, encoding }: TensorType, maxElements: number): Generator<TensorPart> {
  const [columns = 1, rows = 1, ...outer] = (shape as readonly number[]).toReversed();
  const matrices = outer.reduce((product, n) => product * n, 1);
  const step = Math.max(1, Math.floor(maxElements / (panelRows * columns))) * panelRows;
  let offset = 0;
  for (let matrix = 0; matrix < matrices; matrix++) {
    for (let row = 0; row < rows; row += step) {
      const part = { matrix, row, rows: Math.min(step, rows - row), columns };
      const bytes = maxBytes(tensor(dtype, [part.rows, columns], encoding));
      yield { ...part, offset, bytes };
      offset += bytes;
    }
  }
}

/**
 * Where rows of a tensor lie in it, counted over all but its last dimension: of panels, rows of one matrix from the first of a panel on.
 * @throws INVALID_ARGUMENT for other rows
 */
export function placeOfRows(
  { dtype, shape, encoding }: TensorType,
  begin: number,
  end: number,
): { readonly type: TensorType; readonly offset: number; readonly bytes: number } {
  const [columns = 1, rows = 1] = (shape as readonly number[]).toReversed();
  const type = tensor(dtype, [end - begin, columns], encoding);
  if (encoding === "plain") return { type, offset: maxBytes(tensor(dtype, [begin, columns])), bytes: maxBytes(type) };
  const matrix = Math.floor(begin / rows);
  const row = begin - matrix * rows;
  const last = end - matrix * rows;
  if (row % panelRows !== 0 || last > rows || (last % panelRows !== 0 && last !== rows))
    fail("INVALID_ARGUMENT", `rows ${begin} to ${end} are not whole panels of one matrix of ${rows} rows`);
  const panels = (n: number) => maxBytes(tensor(dtype, [n, columns], "panels"));
  return { type, offset: matrix * panels(rows) + panels(row), bytes: maxBytes(type) };
}

/**
 * The elements of panels, row by row: the inverse of `encode`, as near as the type is. Row n, column k of a panel of floats lies at 32·k + n, in
 * bfloat16 at 64·⌊k/2⌋ + 2·n + k mod 2; native/cpu/quantised.h has the layout of integers.
 */
export function unpackPanels(type: TensorType, bytes: Uint8Array): Float32Array | Uint16Array {
  const { dtype, shape } = type;
  const [columns = 1, rows = 1, ...outer] = (shape as readonly number[]).toReversed();
  const matrices = outer.reduce((product, n) => product * n, 1);
  const whole = dtype === "bfloat16" ? new Uint16Array(matrices * rows * columns) : new Float32Array(matrices * rows * columns);
  const panelBytes = maxBytes(tensor(dtype, [panelRows, columns], "panels"));
  for (let matrix = 0, at = 0, from = 0; matrix < matrices; matrix++) {
    for (let row = 0; row < rows; row += panelRows, from += panelBytes) {
      const part = whole.subarray(at, at + Math.min(panelRows, rows - row) * columns);
      if (isQuantised(type)) unpackIntegers(dtype, bytes, from, columns, part);
      else unpackFloats(dtype, bytes, from, columns, part);
      at += part.length;
    }
  }
  return whole;
}

function unpackFloats(dtype: DType, bytes: Uint8Array, from: number, columns: number, into: Float32Array | Uint16Array): void {
  const elements = dtype === "bfloat16" ? Uint16Array : Float32Array;
  const panel = new elements(bytes.buffer as ArrayBuffer, bytes.byteOffset + from, panelRows * 2 * Math.ceil(columns / 2));
  const taken = dtype === "bfloat16" ? 2 : 1;
  for (let i = 0, n = 0; i < into.length; n++) {
    for (let k = 0; k < columns; k++, i++) into[i] = panel[(k - (k % taken)) * panelRows + n * taken + (k % taken)] as number;
  }
}

const blockColumns = 256;
const groupColumns = 32;
/** Of 32 rows and 32 columns: values, then a step and an offset of each row. */
const groupBytes: Readonly<Partial<Record<DType, number>>> = { int8: 1024, int6: 832, int4: 576 };

function unpackIntegers(dtype: DType, bytes: Uint8Array, from: number, columns: number, into: Float32Array | Uint16Array): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const size = groupBytes[dtype] as number;
  const rows = into.length / columns;
  for (let begin = 0; begin < columns; begin += blockColumns) {
    const width = Math.min(blockColumns, columns - begin);
    const scales = from + Math.ceil(width / groupColumns) * size;
    for (let n = 0; n < rows; n++) {
      const scale = view.getFloat32(scales + 4 * n, true);
      for (let k = 0; k < width; k++) {
        const group = from + (k >>> 5) * size;
        into[n * columns + begin + k] = scale * integerAt(dtype, view, group, n, k & 31);
      }
    }
    from = scales + 4 * panelRows;
  }
}

/** The 8-bit integer of row n and column k of a group. */
function integerAt(dtype: DType, view: DataView, group: number, n: number, k: number): number {
  const quad = k >>> 2;
  const part = k & 3;
  if (dtype === "int8") return view.getUint8(group + quad * 128 + 4 * n + part) - 128;
  const half = n >>> 4;
  const place = 4 * (n & 15) + part;
  let q = (view.getUint8(group + quad * 64 + place) >>> (4 * half)) & 15;
  if (dtype === "int6") q |= ((view.getUint8(group + 512 + (quad >>> 1) * 64 + place) >>> ((quad & 1) * 4 + half * 2)) & 3) << 4;
  const steps = group + (dtype === "int6" ? 768 : 512);
  return view.getInt8(steps + panelRows + n) + view.getUint8(steps + n) * q;
}
