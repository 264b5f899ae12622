import { ZayaError } from "@zaya/kernels";

/** Hands out the first `count` whole numbers: pages of the cache, and slots of the states. Lowest free number first. */
export interface Allocator {
  readonly total: number;
  readonly free: number;
  /** `count` numbers, or null where fewer are free. */
  take(count: number): number[] | null;
  give(numbers: readonly number[]): void;
}

/** Makes an allocator of the numbers 0 … total−1. */
export function createAllocator(total: number): Allocator {
  const stack = Array.from({ length: total }, (_, i) => total - 1 - i);
  const taken = new Uint8Array(total);
  return {
    total,
    get free() {
      return stack.length;
    },
    take(count) {
      if (count > stack.length) return null;
      const numbers = stack.splice(stack.length - count, count).reverse();
      for (const n of numbers) taken[n] = 1;
      return numbers;
    },
    give(numbers) {
      for (const n of numbers) {
        if (taken[n] !== 1) throw new ZayaError("INVALID_ARGUMENT", `${n} is given back but was not taken`);
        taken[n] = 0;
        stack.push(n);
      }
    },
  };
}
