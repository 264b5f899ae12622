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

/** Bytes of memory that this process can have at the most: the machine's, or less where its control group sets a limit. */
export function memoryLimit(): number {
  return Math.min(totalmem(), process.constrainedMemory() || Number.POSITIVE_INFINITY);
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

/** A stretch of work between two measurements of what limits it. */
export interface MeasuredSlice {
  readonly seconds: number;
  /** 10⁹ bytes or operations. */
  readonly work: number;
  /** The limit before and after, 10⁹ bytes or operations a second. */
  readonly before: number;
  readonly after: number;
}

/** Two measurements that differ by more are of a machine that changed its speed. */
const steadyShare = 0.1;

/**
 * Share of the machine's limit that work reached, by the higher of the limits before and after each slice. A slice during which the machine changed its
 * speed has no limit to compare it with; it counts only where every slice is such.
 */
export function shareOfLimit(slices: readonly MeasuredSlice[]): number {
  const steady = slices.filter(({ before, after }) => Math.abs(before - after) <= steadyShare * Math.max(before, after));
  const counted = steady.length > 0 ? steady : slices;
  const secondsAtLimit = counted.reduce((sum, { work, before, after }) => sum + work / Math.max(before, after), 0);
  return secondsAtLimit / counted.reduce((sum, { seconds }) => sum + seconds, 0);
}

/** Milliseconds of one measurement: of the memory, of products. */
const readMilliseconds = 25;
const productMilliseconds = 8;

/**
 * Between its measurements the device keeps the memory that reading is measured in (`keepBuffer`).
 *
 * @example const meter = createLimitMeter(device); const before = await meter.measure("read"); // GB/s
 */
export function createLimitMeter(device: Device): LimitMeter {
  const seen: Record<keyof Limits, number[]> = { read: [], float32: [], bfloat16: [], int8: [] };
  return {
    async measure(limit) {
      const value = await device.measure(limit, limit === "read" ? readMilliseconds : productMilliseconds, { keepBuffer: true });
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
