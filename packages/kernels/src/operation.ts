import type { Node, Value } from "./graph.js";
import type { TensorType } from "./types.js";

/** Numbers that belong to a node: sizes, epsilons and switches. What a name means is told by the operation's file. */
export type Attributes = Readonly<Record<string, number>>;

/** What a node costs once: floating-point operations, and bytes that must be read and written. */
export interface Cost {
  readonly flops: number;
  readonly bytes: number;
}

/** The shapes of a node with every size bound, for cost formulas. */
export interface BoundShapes {
  readonly inputs: readonly (readonly number[] | null)[];
  readonly outputs: readonly (readonly number[])[];
}

/** The same and what whole tensors take; 0 for an absent input. */
export interface BoundTensors extends BoundShapes {
  readonly inputBytes: readonly number[];
  readonly outputBytes: readonly number[];
}

/** Bytes of all inputs and outputs. */
export function wholeBytes({ inputBytes, outputBytes }: BoundTensors): number {
  return [...inputBytes, ...outputBytes].reduce((total, n) => total + n, 0);
}

/** The same where no more than `rows` of the rows, or matrices, of some inputs are read. */
export function bytesOfRows(tensors: BoundTensors, rows: number, inputs: readonly number[]): number {
  const unread = inputs.map((i) => (tensors.inputBytes[i] ?? 0) * Math.max(0, 1 - rows / (tensors.inputs[i]?.[0] ?? rows)));
  return wholeBytes(tensors) - unread.reduce((total, n) => total + n, 0);
}

/**
 * One operation, whole: how it is called in the plan, what it makes of types, its derivative and its cost.
 * The kernel of the same name is in native/ops/<name>.cpp.
 */
export interface Operation {
  /** The name in C++, in the plan and of the files. */
  readonly name: string;
  /** Attribute names in the order in which the plan passes them. */
  readonly attributes?: readonly string[];
  /** Types of the outputs; throws SHAPE_MISMATCH where the inputs do not fit. */
  readonly infer: (inputs: readonly (TensorType | null)[], attributes: Attributes) => readonly TensorType[];
  /**
   * The gradient with respect to each input, in order; null where there is none (integers, absent inputs) or none is needed.
   * `gradients[i]` is null where output i does not reach the loss.
   */
  readonly gradient?: (call: GradientCall) => readonly (Value | null)[];
  /** FLOPs; bytes are the sizes of inputs and outputs unless given. Without it an operation counts no FLOPs. */
  readonly flops?: (shapes: BoundShapes, attributes: Attributes) => number;
  readonly bytes?: (tensors: BoundTensors, attributes: Attributes) => number;
  /** For a composite: the same function in simpler operations. A device without a kernel of this name runs these. */
  readonly decompose?: (inputs: readonly (Value | null)[], attributes: Attributes) => readonly Value[];
  /** Output 0 is input 0 under another shape: no kernel, no memory. */
  readonly view?: true;
  /** [output, input] pairs that may share memory, element i of one written only after element i of the other was read last. */
  readonly inPlace?: readonly (readonly [number, number])[];
  /**
   * It writes only what nobody reads before the step has ended, as free rows of a cache: it updates the store in place also where its result is read, and
   * a run that is aborted may leave what it wrote.
   */
  readonly appends?: true;
  /** Its kernel may refuse the numbers it is given, so in the tail it runs before those that cannot: what fails then has changed nothing. */
  readonly mayRefuse?: true;
}

export interface GradientCall {
  readonly node: Node;
  readonly inputs: readonly (Value | null)[];
  readonly outputs: readonly Value[];
  readonly gradients: readonly (Value | null)[];
  /** Whether the caller wants the gradient of input i; the others may be left null. */
  readonly wants: (input: number) => boolean;
}
