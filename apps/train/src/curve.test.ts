import { mkdtemp, readdir, readFile, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { drawChart, drawSvg, saveCurve } from "./curve.js";

const points = Array.from({ length: 200 }, (_, i) => ({ step: i + 1, loss: 5 * Math.exp(-i / 50) }));

test("draws a falling loss as a falling chart with its bounds", () => {
  const lines = drawChart(points, { terminal: 30, rows: 4 }).split("\n");
  expect(lines.length).toBe(6);
  expect(lines[0]).toMatch(/^ +4\.\d+ │█▂? +$/);
  expect(lines[3]).toMatch(/^ +0\.\d+ │█.*▁$/);
  expect(lines[5]).toMatch(/1 +200$/);
});

test.each([
  [undefined, 70],
  [200, 70],
  [70, 70],
  [50, 50],
  [10, 30],
])("draws a chart for a terminal of %s columns in %i", (terminal, columns) => {
  const lines = drawChart(points, { terminal }).split("\n");
  expect(Math.max(...lines.map((line) => line.length))).toBe(columns);
});

test("draws a single point, equal points and none", () => {
  expect(drawChart([{ step: 1, loss: 2 }])).toContain("2.000");
  expect(
    drawChart([
      { step: 1, loss: 2 },
      { step: 2, loss: 2 },
    ]),
  ).not.toContain("NaN");
  expect(drawChart([])).toBe("");
});

test("draws a picture without NaN, also of one point", () => {
  expect(drawSvg(points, [{ step: 100, loss: 1 }])).toMatch(/^<svg [\s\S]*<circle [\s\S]*<\/svg>\n$/);
  expect(drawSvg([{ step: 1, loss: 2 }], [])).not.toContain("NaN");
});

test("draws a run of more steps than a call takes arguments", () => {
  const long = Array.from({ length: 300_000 }, (_, i) => ({ step: i + 1, loss: 3 }));
  expect(drawSvg(long, [])).toContain("step 300000");
  expect(drawChart(long)).toContain("3.000");
});

test("reads both curves from the metrics", async () => {
  const folder = await mkdtemp(join(tmpdir(), "curve-"));
  await writeFile(join(folder, "metrics.jsonl"), '{"step":1,"loss":2}\n{"step":1,"evaluationLoss":2.5}\n');
  await saveCurve(join(folder, "metrics.jsonl"), join(folder, "loss.svg"));
  expect(await readFile(join(folder, "loss.svg"), "utf8")).toContain("2.50");
});

test("draws no picture of a run without metrics", async () => {
  const folder = await mkdtemp(join(tmpdir(), "curve-"));
  await writeFile(join(folder, "metrics.jsonl"), "");
  expect(await saveCurve(join(folder, "metrics.jsonl"), join(folder, "loss.svg"))).toBe("");
  expect(await readdir(folder)).toEqual(["metrics.jsonl"]);
});
