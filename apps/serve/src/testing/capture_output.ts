import { afterEach, beforeEach, vi } from "vitest";

/** What the tests of a file print, from the beginning of each test on. */
export function captureOutput(): { stdout: string; stderr: string } {
  const output = { stdout: "", stderr: "" };
  beforeEach(() => {
    for (const name of ["stdout", "stderr"] as const) {
      output[name] = "";
      vi.spyOn(process[name], "write").mockImplementation((text) => {
        output[name] += text;
        return true;
      });
    }
  });
  afterEach(() => vi.restoreAllMocks());
  return output;
}
