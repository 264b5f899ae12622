import { mkdtemp, readFile, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { openMetrics } from "./metrics.js";

test("names the file and the line that is no JSON", async () => {
  const path = join(await mkdtemp(join(tmpdir(), "metrics-")), "metrics.jsonl");
  await writeFile(path, '{"step":1,"loss":3}\n{"step":2,"lo\n{"step":3,"loss":1}\n');
  await expect(openMetrics(path, 3)).rejects.toMatchObject({
    code: "INVALID_DATA",
    message: expect.stringContaining(`${path}:2: not JSON`),
  });
});

test("cuts the file back to the step it goes on from, also a half line", async () => {
  const path = join(await mkdtemp(join(tmpdir(), "metrics-")), "metrics.jsonl");
  await writeFile(path, '{"step":1,"loss":3}\n{"step":2,"loss":2}\n{"step":2,"evaluationLoss":2}\n{"step":3,"loss":1}\n{"step":4,"lo');
  {
    await using metrics = await openMetrics(path, 2);
    await metrics.append({ step: 3, loss: 1.5 });
    await metrics.sync();
  }
  expect(await readFile(path, "utf8")).toBe(
    '{"step":1,"loss":3}\n{"step":2,"loss":2}\n{"step":2,"evaluationLoss":2}\n{"step":3,"loss":1.5}\n',
  );
});
