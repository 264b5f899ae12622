import { spawnSync } from "node:child_process";
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const folder = mkdtempSync(join(tmpdir(), "scripts-"));
const file = (name, content) => {
  writeFileSync(join(folder, name), content);
  return join(folder, name);
};

test.each([
  ["quickstart", ["--data", file("bad.jsonl", '"a text"\n{"text": ')], /bad\.jsonl:2: not JSON/],
  ["quickstart", ["--data", file("other.jsonl", '{"body": "a text"}')], /other\.jsonl:1: expected a text/],
  ["quickstart", ["--data", folder], /is a folder; name the files/],
  ["quickstart", ["--data", join(folder, "none.txt")], /none\.txt does not exist/],
  ["quickstart", ["--data", file("short.txt", "one text")], /too little text/],
  ["conformance", ["--pyhton", "python3"], /Unknown option '--pyhton'/],
  ["conformance", [], /--maker: name the program/],
])("%s %j ends in one line and exit code 2", (script, args, message) => {
  const program = fileURLToPath(new URL(`./${script}.mjs`, import.meta.url));
  const { status, stdout, stderr } = spawnSync(process.execPath, [program, ...args], { encoding: "utf8" });
  expect(stderr).toMatch(message);
  expect(stderr).not.toMatch(/^ {4}at /m);
  expect([status, stdout]).toEqual([2, ""]);
});

test("conformance finds a Python by its name", () => {
  const maker = file("maker.py", "import sys; sys.exit('made nothing')");
  const program = fileURLToPath(new URL("./conformance.mjs", import.meta.url));
  const args = ["--maker", maker, "--python", "sh", "--cases", join(folder, "cases")];
  const { stderr } = spawnSync(process.execPath, [program, ...args], { encoding: "utf8" });
  expect(stderr).toContain(`failed: sh ${maker}`);
});
