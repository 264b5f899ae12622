import { expect, it } from "vitest";
import { toBfloat16 } from "./bfloat16.js";
import { firstNotFinite } from "./finite.js";

const bytesOf = (array: Float32Array | Uint16Array) => new Uint8Array(array.buffer, array.byteOffset, array.byteLength);

it("finds the first NaN or infinity at any place, in every type, aligned to 4 bytes or not", () => {
  const values = [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  const halves = { BF16: [0xffc1, 0x7f80, 0xff80], F16: [0xfc01, 0x7c00, 0xfc00] } as const;
  for (let length = 1; length <= 9; length++) {
    for (let element = 0; element < length; element++) {
      values.forEach((value, i) => {
        const what = i === 0 ? "NaN" : "an infinity";
        const floats = new Float32Array(length).fill(-3.4e38);
        floats[element] = value;
        expect(firstNotFinite(bytesOf(floats), "F32")).toEqual({ element, what });
        for (const dtype of ["BF16", "F16"] as const) {
          for (const shift of [0, 1]) {
            const words = new Uint16Array(length + shift).fill(dtype === "F16" ? 0xfbff : 0xff7f);
            words[element + shift] = halves[dtype][i] as number;
            expect(firstNotFinite(bytesOf(words.subarray(shift)), dtype)).toEqual({ element, what });
          }
        }
      });
    }
  }
});

it("looks at bytes that start anywhere", () => {
  const bytes = new Uint8Array(13);
  bytes.set(bytesOf(Float32Array.of(1, 2, Number.NaN)), 1);
  expect(firstNotFinite(bytes.subarray(1), "F32")).toEqual({ element: 2, what: "NaN" });
  expect(firstNotFinite(bytes.subarray(1, 9), "F32")).toBeNull();
});

it("lets every finite number pass", () => {
  const floats = Float32Array.of(0, -0, 1e-45, -1.1754943508222875e-38, 3.4028234663852886e38, -3.4028234663852886e38, 1);
  expect(firstNotFinite(bytesOf(floats), "F32")).toBeNull();
  const finite = (exponent: number) => Uint16Array.from({ length: 65536 }, (_, i) => i).filter((bits) => (bits & exponent) !== exponent);
  expect(firstNotFinite(bytesOf(finite(0x7f80)), "BF16")).toBeNull();
  expect(firstNotFinite(bytesOf(finite(0x7c00)), "F16")).toBeNull();
  expect(firstNotFinite(bytesOf(toBfloat16(Float32Array.of(1, 2, 3)).subarray(1)), "BF16")).toBeNull();
});
