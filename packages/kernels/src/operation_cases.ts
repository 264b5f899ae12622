import { openDevice } from "./device.js";
import type { Graph, Value } from "./graph.js";
import type { InstructionSet } from "./native.js";
import { checkGradient, runGraph, type TestTensor, toArray } from "./testing.js";

/** One call of an operation and what it must give. Inputs without a dtype are float32, and float64 in the float64 run. */
export interface OperationCase {
  readonly inputs: Readonly<Record<string, TestTensor>>;
  readonly build: (inputs: Record<string, Value>, graph: Graph) => Record<string, Value>;
  /** Elements of each output, computed in double precision. NaN must be NaN. */
  readonly expected: Readonly<Record<string, ArrayLike<number>>>;
  /** Largest |a − b| / max(1, |b|) in float32. Default 2e-6. */
  readonly tolerance?: number;
  /** Whether the kernel also runs in float64, where 1e-12 is asked. Default true. */
  readonly float64?: boolean;
}

/** The instruction sets of this processor, the specification first. */
export async function instructionSets(): Promise<InstructionSet[]> {
  const sets: InstructionSet[] = ["portable"];
  for (const isa of ["avx2", "avx512"] as const) {
    try {
      await using device = await openDevice("cpu", { threads: 1, isa });
      sets.push(device.isa as InstructionSet);
    } catch {
      // This processor lacks it.
    }
  }
  return sets;
}

/**
 * Runs a case in float64 and, on every instruction set, in float32 with 1, 2, 3 and 7 threads that share a cache or do not, whose bits must agree.
 * @throws Error saying which output, element and run is wrong
 */
export async function checkCase({ inputs, build, expected, tolerance = 2e-6, float64 = true }: OperationCase): Promise<void> {
  if (float64) compare("float64", await runGraph(build, inputs, { dtype: "float64" }), expected, 1e-12);
  for (const isa of await instructionSets()) {
    const single = await runGraph(build, inputs, { isa, threads: 1 });
    compare(`float32 on ${isa}`, single, expected, tolerance);
    for (const threads of [2, 3, 7]) {
      const many = await runGraph(build, inputs, { isa, threads, sharedCache: threads === 3 });
      for (const [name, output] of Object.entries(single)) {
        if (!sameBits(output, many[name])) throw new Error(`${name} differs between 1 and ${threads} threads on ${isa}`);
      }
    }
  }
}

/** Finite differences in float64 for every element of every floating-point input (or those named); 1e-6 is asked. */
export async function checkGradientCase(
  build: (inputs: Record<string, Value>, graph: Graph) => readonly Value[],
  inputs: Readonly<Record<string, TestTensor>>,
  options: { step?: number; names?: readonly string[] } = {},
): Promise<void> {
  const { worst, at, checked } = await checkGradient(build, inputs, options);
  if (checked === 0) throw new Error("the case has no element to differentiate by");
  if (!(worst < 1e-6)) throw new Error(`${at}: off by ${worst}`);
}

export function sameBits(a: ArrayBufferView | undefined, b: ArrayBufferView | undefined): boolean {
  if (!a || !b) return false;
  const bytes = (view: ArrayBufferView) => Buffer.from(view.buffer, view.byteOffset, view.byteLength);
  return bytes(a).equals(bytes(b));
}

function compare(
  run: string,
  outputs: Readonly<Record<string, ArrayLike<number>>>,
  expected: OperationCase["expected"],
  tolerance: number,
): void {
  for (const [name, wanted] of Object.entries(expected)) {
    const received = outputs[name];
    if (received?.length !== wanted.length) throw new Error(`${run}: ${name} has ${received?.length} elements, expected ${wanted.length}`);
    for (let i = 0; i < wanted.length; i++) {
      const [a, b] = [received[i] as number, wanted[i] as number];
      const same = Object.is(a, b) || a === b || (Number.isNaN(a) && Number.isNaN(b));
      if (!same && !(Math.abs(a - b) / Math.max(1, Math.abs(b)) <= tolerance))
        throw new Error(`${run}: ${name}[${i}] is ${a}, expected ${b}`);
    }
  }
}

/** The numbers that remain when these are stored as bfloat16. */
export function throughBfloat16(data: ArrayLike<number>): Float32Array {
  const bits = Uint32Array.from(toArray("bfloat16", data), (half) => half << 16);
  return new Float32Array(bits.buffer);
}
