import { describe, expect, it } from "vitest";
import { fromBfloat16, fromFloat16, toBfloat16 } from "./bfloat16.js";

/** A float32 from its bits. */
function float(bits: number): Float32Array {
  return new Float32Array(Uint32Array.of(bits).buffer);
}

describe("bfloat16", () => {
  it("rounds to the nearest, ties to even", () => {
    const cases = [
      [0x3f800000, 0x3f80],
      [0x3f807fff, 0x3f80],
      [0x3f808000, 0x3f80],
      [0x3f808001, 0x3f81],
      [0x3f818000, 0x3f82],
      [0x3f817fff, 0x3f81],
      [0xbf818000, 0xbf82],
      [0x7f7fffff, 0x7f80],
      [0x7f800000, 0x7f80],
      [0xff800000, 0xff80],
      [0x00000000, 0x0000],
      [0x80000000, 0x8000],
      [0x00008000, 0x0000],
      [0x00008001, 0x0001],
    ] as const;
    for (const [input, expected] of cases) expect(toBfloat16(float(input))[0], input.toString(16)).toBe(expected);
  });

  it("keeps NaN a NaN, also one whose bits are all in the lower half", () => {
    for (const bits of [0x7fc00000, 0x7f800001, 0xffffffff]) expect(fromBfloat16(toBfloat16(float(bits)))[0]).toBeNaN();
  });

  it("gives back every bfloat16 that went through float32", () => {
    const all = Uint16Array.from({ length: 65536 }, (_, i) => i).filter((bits) => (bits & 0x7fff) <= 0x7f80);
    expect(toBfloat16(fromBfloat16(all))).toEqual(all);
  });
});

describe("float16", () => {
  it("is read exactly: normal, subnormal, infinite", () => {
    const values = fromFloat16(Uint16Array.of(0x3c00, 0xc000, 0x7bff, 0x0400, 0x0001, 0x83ff, 0x7c00, 0xfc00));
    expect([...values]).toEqual([1, -2, 65504, 2 ** -14, 2 ** -24, -1023 * 2 ** -24, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]);
    expect(fromFloat16(Uint16Array.of(0x7e00))[0]).toBeNaN();
  });
});
