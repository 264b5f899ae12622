import { execFileSync } from "node:child_process";
import { expect, test } from "vitest";
import { shellWord } from "./shell_word.js";

test.each(["runs/first", "/a_b/c-d.e", "./run@2+3=5:6,7%"])("leaves %s as it is", (path) => {
  expect(shellWord(path)).toBe(path);
});

test.each(["my run", "", "Läufe/eins", "it's", "''", "$HOME/`x`", "a\nb", "~/run", "a*", "a;b&c|d", 'a"b', "a\\b"])(
  "gives a shell %j back",
  (path) => {
    expect(execFileSync("/bin/sh", ["-c", `printf %s ${shellWord(path)}`], { encoding: "utf8" })).toBe(path);
    expect(shellWord(path)).toMatch(/^'/);
  },
);
