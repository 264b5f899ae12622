import { fail } from "./errors.js";
import type { Graph, Value } from "./graph.js";
import type { MatrixProduct } from "./products.js";
import { expectArray, type TensorData } from "./store.js";
import { describeType, expectSize, type Size, type TensorType } from "./types.js";

/** What one run takes. */
export interface RunOptions {
  /** Every input of the graph by name. */
  readonly inputs?: Readonly<Record<string, TensorData>> | undefined;
  /** Values of sizes; those that follow from the length of an input may be left out. */
  readonly sizes?: Readonly<Record<string, number>> | undefined;
  /** Names of the outputs to copy out. Default: all. Others can be read after the run. */
  readonly outputs?: readonly string[] | undefined;
  /** Aborting rejects with `signal.reason`, at once while others run before it, else before the next operation, unless the store is already being updated; the store stays as it was, but for rows behind those a cache has. */
  readonly signal?: AbortSignal | undefined;
}

/** A compiled graph on a device. */
export interface Executable extends AsyncDisposable {
  /**
   * Bytes that its inputs, intermediate values, outputs and kernels' workspaces take; on the null device without workspaces, unless it was opened with
   * the option `workspaces`. The executables of a device share them, as large as the largest wants; the store is not counted.
   */
  readonly arenaBytes: number;
  /** Operations in the order in which they run, by name. */
  readonly steps: readonly string[];
  /** Which kernels multiply which matrices of the store, and as what. */
  readonly products: readonly MatrixProduct[];
  /**
   * Runs once. Runs on one device follow each other; the event loop is never blocked. Inputs are copied when it is called.
   * @throws DISPOSED, or MISSING_TENSOR naming it, where a tensor of the store that the graph uses is gone
   */
  run(options?: RunOptions): Promise<Record<string, TensorData>>;
  /**
   * A copy of the elements of an output from `begin` to `end`, as the last run left them.
   * @throws INVALID_ARGUMENT while a run of this executable is in progress, before the first one, when another executable of the device has run since or a larger
   * one was compiled, outside of the output, and where there is no such output
   */
  read(output: string, begin: number, end: number): TensorData;
  /** Like `run`, and returns the nanoseconds of each step. */
  profile(options?: RunOptions): Promise<{ readonly outputs: Record<string, TensorData>; readonly nanoseconds: readonly number[] }>;
}

/**
 * The value of every size: given, or found from the lengths of the inputs.
 * @throws MISSING_INPUT, INVALID_ARGUMENT, SHAPE_MISMATCH naming the input or size
 */
export function bindSizes(
  sizes: readonly Size[],
  inputs: readonly Value[],
  { inputs: data = {}, sizes: given = {} }: RunOptions,
): Map<string, number> {
  const bound = new Map<string, number>(Object.entries(given));
  for (const name of bound.keys()) if (!sizes.some((size) => size.name === name)) fail("INVALID_ARGUMENT", `the graph has no size ${name}`);
  for (const value of inputs) {
    const array = data[value.node.name] ?? fail("MISSING_INPUT", `input ${value.node.name}, ${describeType(value.type)}, is missing`);
    expectArray(`input ${value.node.name}`, value.type, array);
    const solved = solveSize(value.type, array.length, bound);
    if (!solved || bound.has(solved.name)) continue;
    if (!Number.isInteger(solved.value))
      fail(
        "SHAPE_MISMATCH",
        `input ${value.node.name} is ${describeType(value.type)}: ${array.length} elements are no whole number of ${solved.name}`,
      );
    bound.set(solved.name, solved.value);
  }
  for (const size of sizes) {
    const value = bound.get(size.name);
    if (value === undefined) fail("MISSING_INPUT", `size ${size.name} does not follow from the inputs; pass it in \`sizes\``);
    expectSize(size, value);
  }
  for (const value of inputs) {
    const elements = value.type.shape.reduce<number>(
      (n, d) => n * (typeof d === "number" ? d : d.times * (bound.get(d.name) ?? 0) + d.plus),
      1,
    );
    const length = data[value.node.name]?.length;
    if (length !== elements)
      fail("SHAPE_MISMATCH", `input ${value.node.name} is ${describeType(value.type)}: expected ${elements} elements, received ${length}`);
  }
  return bound;
}

function solveSize(type: TensorType, length: number, bound: ReadonlyMap<string, number>): { name: string; value: number } | null {
  let known = 1;
  let unknown: Size | null = null;
  for (const dimension of type.shape) {
    const value = typeof dimension === "number" ? dimension : bound.get(dimension.name);
    if (typeof dimension === "number") known *= dimension;
    else if (value !== undefined) known *= dimension.times * value + dimension.plus;
    else if (unknown) return null;
    else unknown = dimension;
  }
  if (!unknown || known === 0) return null;
  return { name: unknown.name, value: (length / known - unknown.plus) / unknown.times };
}

/** The same with copies of the inputs, for a run that has to wait: its caller may fill the arrays anew. */
export function withOwnInputs(options: RunOptions): RunOptions {
  const inputs = Object.entries(options.inputs ?? {}).map(([name, data]) => [name, data?.slice?.() ?? data]);
  return { ...options, inputs: Object.fromEntries(inputs) };
}

/** The names of a graph's inputs, those that its schedule drops among them. */
export const inputNames = ({ nodes }: Graph): ReadonlySet<string> =>
  new Set(nodes.filter(({ kind }) => kind === "input").map(({ name }) => name));

/** The inputs' arrays in the plan's order; `names` are all that may be given. */
export function orderInputs(
  names: ReadonlySet<string>,
  inputs: readonly Value[],
  data: Readonly<Record<string, TensorData>>,
): TensorData[] {
  for (const name of Object.keys(data)) {
    if (!names.has(name)) fail("INVALID_ARGUMENT", `the graph has no input ${name}`);
  }
  return inputs.map((value) => data[value.node.name] as TensorData);
}
