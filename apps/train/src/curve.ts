import { readFile, writeFile } from "node:fs/promises";

/** A point of the loss curve. */
export interface Point {
  readonly step: number;
  readonly loss: number;
}

/** The losses in a run's metrics.jsonl: of every step, and of every evaluation. */
export async function readCurves(metrics: string): Promise<{ training: Point[]; heldOut: Point[] }> {
  const training: Point[] = [];
  const heldOut: Point[] = [];
  for (const line of (await readFile(metrics, "utf8")).split("\n")) {
    if (line === "") continue;
    const { step, loss, evaluationLoss } = JSON.parse(line) as { step: number; loss?: number; evaluationLoss?: number };
    if (loss !== undefined) training.push({ step, loss });
    if (evaluationLoss !== undefined) heldOut.push({ step, loss: evaluationLoss });
  }
  return { training, heldOut };
}

interface ChartSize {
  readonly terminal?: number | undefined;
  readonly rows?: number;
}

const blocks = " ▁▂▃▄▅▆▇█";

/** Columns of a chart beside its plot. */
const labelColumns = 10;

/** A chart of the losses for a terminal of so many columns, where that is known: those of the chart are means over equal stretches of steps. */
export function drawChart(points: readonly Point[], { terminal = process.stdout.columns, rows = 8 }: ChartSize = {}): string {
  const width = Math.min(terminal ? Math.max(20, terminal - labelColumns) : 60, 60, points.length);
  if (width === 0) return "";
  const means = Array.from({ length: width }, (_, column) => {
    const part = points.slice(Math.floor((column * points.length) / width), Math.floor(((column + 1) * points.length) / width));
    return part.reduce((sum, { loss }) => sum + loss, 0) / part.length;
  });
  const top = Math.max(...means);
  const bottom = Math.min(...means);
  const levels = means.map((mean) => 1 + Math.round(((mean - bottom) / (top - bottom || 1)) * (rows * 8 - 1)));
  const lines = Array.from({ length: rows }, (_, row) => {
    const floor = (rows - 1 - row) * 8;
    const label = row === 0 ? top.toFixed(3) : row === rows - 1 ? bottom.toFixed(3) : "";
    return `${label.padStart(labelColumns - 2)} │${levels.map((level) => blocks[Math.max(0, Math.min(8, level - floor))]).join("")}`;
  });
  const last = String(points.at(-1)?.step ?? "");
  const first = String(points[0]?.step ?? "");
  return [
    ...lines,
    `${" ".repeat(labelColumns - 2)} └${"─".repeat(width)}`,
    `${" ".repeat(labelColumns)}${first}${last.padStart(Math.max(last.length + 1, width - first.length))}`,
  ].join("\n");
}

/** The loss curve as an SVG picture: a line for training, dots for the held-out text. */
export function drawSvg(training: readonly Point[], heldOut: readonly Point[]): string {
  const [width, height, left, bottom] = [800, 400, 60, 40];
  const all = [...training, ...heldOut];
  let [steps, high, low] = [1, 1, Number.POSITIVE_INFINITY];
  for (const { step, loss } of all) [steps, high, low] = [Math.max(steps, step), Math.max(high, loss), Math.min(low, loss)];
  low = Math.min(low, high);
  const x = (step: number) => left + ((width - left - 10) * step) / steps;
  const y = (loss: number) => 10 + ((height - bottom - 10) * (high - loss)) / (high - low || 1);
  const at = ({ step, loss }: Point) => `${x(step).toFixed(1)},${y(loss).toFixed(1)}`;
  const ticks = Array.from({ length: 5 }, (_, i) => low + ((high - low) * i) / 4);
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="12">
<rect width="${width}" height="${height}" fill="white"/>
${ticks.map((tick) => `<path d="M${left} ${y(tick).toFixed(1)}H${width - 10}" stroke="#ddd"/><text x="${left - 6}" y="${(y(tick) + 4).toFixed(1)}" text-anchor="end">${tick.toFixed(2)}</text>`).join("\n")}
<polyline points="${training.map(at).join(" ")}" fill="none" stroke="#4477aa"/>
${heldOut.map((point) => `<circle cx="${x(point.step).toFixed(1)}" cy="${y(point.loss).toFixed(1)}" r="3.5" fill="#cc3311"/>`).join("\n")}
<text x="${left}" y="${height - 14}">1</text><text x="${width - 10}" y="${height - 14}" text-anchor="end">step ${steps}</text>
<text x="${width / 2}" y="${height - 14}" text-anchor="middle">loss, nats a token: <tspan fill="#4477aa">training</tspan>, <tspan fill="#cc3311">held out</tspan></text>
</svg>
`;
}

/** Writes loss.svg from a run's metrics, where there are any, and returns the chart for the terminal. */
export async function saveCurve(metrics: string, svg: string): Promise<string> {
  const { training, heldOut } = await readCurves(metrics);
  if (training.length + heldOut.length > 0) await writeFile(svg, drawSvg(training, heldOut));
  return drawChart(training);
}
