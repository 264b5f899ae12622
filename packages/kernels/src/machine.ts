import { cpus, release, totalmem, type } from "node:os";
import type { Device } from "./device.js";
import { median } from "./statistics.js";

/** Where figures were measured. */
export interface Machine {
  readonly processor: string;
  readonly threads: number;
  /** Instruction set of the kernels. */
  readonly isa: string;
  readonly memoryBytes: number;
  readonly system: string;
  readonly node: string;
}

export function describeMachine(device: Device): Machine {
  return {
    processor: cpus()[0]?.model.trim() ?? "unknown",
    threads: device.threads,
    isa: device.isa,
    memoryBytes: totalmem(),
    system: `${type()} ${release()}`,
    node: process.version,
  };
}

/** What a machine can do: 10⁹ bytes read, or 10⁹ multiplications and additions, a second on all threads. */
export interface Limits {
  readonly read: number;
  readonly float32: number;
  readonly bfloat16: number;
  readonly int8: number;
}

/** Measures limits again and again, since a machine's speed may change from second to second. */
export interface LimitMeter {
  /** One limit now. */
  measure(limit: keyof Limits): Promise<number>;
  /** Medians of all measurements so far. */
  medians(): Limits;
}

/** Milliseconds of one measurement: of the memory, of products. */
const readMilliseconds = 25;
const productMilliseconds = 8;

/** @example const meter = createLimitMeter(device); const before = await meter.measure("read"); // GB/s */
export function createLimitMeter(device: Device): LimitMeter {
  const seen: Record<keyof Limits, number[]> = { read: [], float32: [], bfloat16: [], int8: [] };
  return {
    async measure(limit) {
      const value = await device.measure(limit, limit === "read" ? readMilliseconds : productMilliseconds);
      seen[limit].push(value);
      return value;
    },
    medians: () => ({
      read: median(seen.read),
      float32: median(seen.float32),
      bfloat16: median(seen.bfloat16),
      int8: median(seen.int8),
    }),
  };
}
