import { expect, test } from "vitest";
import { formatBytes } from "./format_bytes.js";

test.each([
  [0, "0 B"],
  [999.4, "999 B"],
  [999.6, "1.00 kB"],
  [4096, "4.10 kB"],
  [999_499, "999 kB"],
  [999_500, "1.00 MB"],
  [5.5e9, "5.50 GB"],
  [1.584e12, "1.58 TB"],
  [1e17, "100 PB"],
  [9.99e20, "999 EB"],
])("%d bytes are %s", (bytes, text) => {
  expect(formatBytes(bytes)).toBe(text);
});
