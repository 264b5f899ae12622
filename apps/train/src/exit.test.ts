import { expect, test } from "vitest";
import { describeError } from "./exit.js";

test("says of a full disk what to do, unless the system names the file", () => {
  const full = (message: string, more: object = {}) => Object.assign(new Error(message), { code: "ENOSPC", ...more });
  expect(describeError(full("ENOSPC: no space left on device, write"))).toEqual({
    line: "no space is left on the disk; free some and run the same command again",
    code: 2,
  });
  const named = "ENOSPC: no space left on device, open '/disk/file'";
  expect(describeError(full(named, { path: "/disk/file" }))).toEqual({ line: named, code: 2 });
});
