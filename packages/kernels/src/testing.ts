import { type DeviceOptions, openDevice } from "./device.js";
import { vectorJacobian } from "./differentiate.js";
import { createGraph, type Graph, type Value } from "./graph.js";
import type { TensorData } from "./store.js";
import { type DType, tensor } from "./types.js";

/** A tensor for a test: its shape, and its elements as plain numbers. Integers go in as int32. */
export interface TestTensor {
  readonly shape: readonly number[];
  readonly data: ArrayLike<number>;
  readonly dtype?: DType;
}

/** Numbers in (−1, 1) that look random and are the same every time. */
export function testNumbers(count: number, seed: number): number[] {
  let state = (seed * 2654435761 + 12345) >>> 0;
  return Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state / 2 ** 32) * 2 - 1;
  });
}

/** A tensor of such numbers. */
export function testTensor(shape: readonly number[], seed: number, scale = 1): TestTensor {
  const count = shape.reduce((product, n) => product * n, 1);
  return { shape, data: testNumbers(count, seed).map((x) => x * scale) };
}

/** An int32 tensor of one dimension. */
export function testIntegers(...data: number[]): TestTensor {
  return { shape: [data.length], data, dtype: "int32" };
}

export function toArray(dtype: DType, data: ArrayLike<number>): TensorData {
  if (dtype === "float64") return Float64Array.from(data);
  if (dtype === "int32") return Int32Array.from(data);
  if (dtype === "int8") return Int8Array.from(data);
  const floats = Float32Array.from(data);
  if (dtype === "float32") return floats;
  const bits = new Uint32Array(floats.buffer);
  return Uint16Array.from(bits, (b) => (b + 0x7fff + ((b >>> 16) & 1)) >>> 16);
}

/** Builds a graph from inputs, runs it with guarded buffers and returns its outputs. Inputs without a dtype are float32. */
export async function runGraph(
  build: (inputs: Record<string, Value>, graph: Graph) => Record<string, Value>,
  inputs: Readonly<Record<string, TestTensor>>,
  { dtype = "float32", ...options }: DeviceOptions & { dtype?: DType } = {},
): Promise<Record<string, TensorData>> {
  await using device = await openDevice("cpu", { threads: 2, guard: true, ...options });
  const graph = createGraph();
  const values: Record<string, Value> = {};
  const data: Record<string, TensorData> = {};
  for (const [name, input] of Object.entries(inputs)) {
    const type = tensor(input.dtype ?? dtype, input.shape);
    values[name] = graph.input(name, type);
    data[name] = toArray(type.dtype, input.data);
  }
  for (const [name, value] of Object.entries(build(values, graph))) graph.output(name, value);
  await using executable = device.compile(graph);
  return await executable.run({ inputs: data });
}

/**
 * Compares the gradient of Σ cᵢ·outputᵢ, with fixed random c, to central differences in float64, for every element of every
 * floating-point input (or those named). Returns the largest |a−b| / max(1, |b|) seen and where.
 */
export async function checkGradient(
  build: (inputs: Record<string, Value>, graph: Graph) => readonly Value[],
  inputs: Readonly<Record<string, TestTensor>>,
  { step = 1e-5, names }: { step?: number; names?: readonly string[] } = {},
): Promise<{ worst: number; at: string; checked: number }> {
  await using device = await openDevice("cpu", { threads: 2, guard: true });
  const graph = createGraph();
  const values: Record<string, Value> = {};
  const data: Record<string, TensorData> = {};
  for (const [name, input] of Object.entries(inputs)) {
    const type = tensor(input.dtype ?? "float64", input.shape);
    values[name] = graph.input(name, type);
    data[name] = toArray(type.dtype, input.data);
  }
  const outputs = build(values, graph);
  const wrt = names ?? Object.keys(inputs).filter((name) => !inputs[name]?.dtype || inputs[name]?.dtype === "float64");
  const seeds = outputs.map((output, i) => graph.input(`seed ${i}`, output.type));
  const gradients = vectorJacobian(
    outputs,
    seeds,
    wrt.map((name) => values[name] as Value),
  );
  outputs.forEach((output, i) => {
    graph.output(`output ${i}`, output);
    data[`seed ${i}`] = Float64Array.from(
      testNumbers(
        output.type.shape.reduce<number>((n, d) => n * (d as number), 1),
        77 + i,
      ),
    );
  });
  gradients.forEach((gradient, i) => {
    graph.output(`gradient ${wrt[i]}`, gradient);
  });
  await using executable = device.compile(graph);
  const run = () => executable.run({ inputs: data });
  const total = (results: Record<string, TensorData>) => {
    let sum = 0;
    outputs.forEach((_, i) => {
      const seed = data[`seed ${i}`] as TensorData;
      for (const [j, y] of (results[`output ${i}`] as TensorData).entries()) sum += y * (seed[j] as number);
    });
    return sum;
  };

  const analytic = await run();
  let worst = 0;
  let at = "nothing";
  let checked = 0;
  for (const name of wrt) {
    const x = data[name] as TensorData;
    const dx = analytic[`gradient ${name}`] as TensorData;
    for (let i = 0; i < x.length; i++) {
      const before = x[i] as number;
      x[i] = before + step;
      const above = total(await run());
      x[i] = before - step;
      const below = total(await run());
      x[i] = before;
      const numeric = (above - below) / (2 * step);
      const difference = Math.abs((dx[i] as number) - numeric) / Math.max(1, Math.abs(numeric));
      checked++;
      if (difference > worst || Number.isNaN(difference)) {
        worst = Number.isNaN(difference) ? Number.POSITIVE_INFINITY : difference;
        at = `${name}[${i}]: gradient ${dx[i]}, by differences ${numeric}`;
      }
    }
  }
  return { worst, at, checked };
}
