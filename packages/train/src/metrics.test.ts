import { mkdtemp, readFile, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { openMetrics } from "./metrics.js";

async function fileOf(...lines: readonly string[]): Promise<string> {
  const path = join(await mkdtemp(join(tmpdir(), "metrics-")), "metrics.jsonl");
  await writeFile(path, lines.join("\n"));
  return path;
}

test.each([
  ["a half line", '{"step":2,"lo', '{"step":3,"loss":1}', ""],
  ["zeros at the end", "\0\0\0"],
  ["no object", "2", ""],
])("names the file and the line before the step it goes on from: %s", async (_what, ...damage) => {
  const path = await fileOf('{"step":1,"loss":3}', ...damage);
  await expect(openMetrics(path, 2)).rejects.toMatchObject({
    code: "INVALID_DATA",
    message: expect.stringMatching(`^${path}:2: not a line of metrics, .*; restore the file, or remove the line`),
  });
});

test.each([
  ["an empty line", ""],
  ["zeros", "\0\0\0"],
  ["zeros and a line", '\0\0{"step":3,"loss":1}'],
  ["the evaluation of the step", '{"step":2,"evalu'],
])("goes on where what is damaged comes after its step: %s", async (_what, damage) => {
  const path = await fileOf('{"step":1,"loss":3}', "", '{"step":2,"loss":2}', damage, '{"step":3,"loss":1}', "");
  await using metrics = await openMetrics(path, 2);
  expect(metrics.kept.map(({ step }) => step)).toEqual([1, 2]);
  expect(await readFile(path, "utf8")).toBe('{"step":1,"loss":3}\n{"step":2,"loss":2}\n');
});

test("drops lines that cannot be read where they only inform", async () => {
  const path = await fileOf('{"step":1,"seconds":3}', "\0\0", '{"step":2,"seconds":1}', '{"step":3');
  await using _timings = await openMetrics(path, 2, { dropUnreadable: true });
  expect(await readFile(path, "utf8")).toBe('{"step":1,"seconds":3}\n{"step":2,"seconds":1}\n');
});

test("cuts the file back to the step it goes on from, also a half line", async () => {
  const lines = ['{"step":1,"loss":3}', '{"step":2,"loss":2}', '{"step":2,"evaluationLoss":2}', '{"step":3,"loss":1}', '{"step":4,"lo'];
  const path = await fileOf(...lines);
  {
    await using metrics = await openMetrics(path, 2);
    await metrics.append({ step: 3, loss: 1.5 });
    await metrics.sync();
  }
  expect(await readFile(path, "utf8")).toBe(
    '{"step":1,"loss":3}\n{"step":2,"loss":2}\n{"step":2,"evaluationLoss":2}\n{"step":3,"loss":1.5}\n',
  );
});
