import { formatBytes } from "@zaya/kernels";
import { presets } from "@zaya/model";
import { type EstimateOptions, estimate, type TrainEstimate } from "@zaya/train";
import Table from "cli-table3";
import type { Command } from "commander";
import { formatSeconds } from "../../terminal/src/format_seconds.js";
import { interruptible } from "../../terminal/src/interrupt.js";
import { addStepOptions, printJson } from "./commands.js";
import { formatCount } from "./format.js";
import { libraryOptions } from "./names.js";

export function addEstimateCommand(program: Command): void {
  const command = program
    .command("estimate")
    .summary("what a training run would take; writes nothing")
    .description(
      "Parameters by group, memory, operations, and the time at the speed this machine has now, from a few real steps where memory allows.",
    )
    .argument("[preset]", `one of ${Object.keys(presets).join(", ")}`, undefined)
    .option("--no-measure", "run no steps; assume half of the measured peak")
    .option("--json", "print the estimate as JSON");
  addStepOptions(command).action(async (preset: string | undefined, options) => {
    const { json, ...rest } = options;
    const model = preset ?? (rest.from === undefined ? "zaya-small" : undefined);
    const result = await interruptible("stopped", (signal) =>
      estimate({ ...libraryOptions({ ...rest, model }), signal } as EstimateOptions),
    );
    if (json) printJson(result);
    else process.stdout.write(`${render(result, options.steps)}\n`);
  });
}

function render(result: TrainEstimate, steps: number | undefined): string {
  const { description, memory, parametersByKind } = result;
  const rows: [string, string][] = [
    [
      "parameters",
      `${formatCount(description.parameters.total)} total, ${formatCount(description.parameters.active)} active a token without embedding`,
    ],
    ...Object.entries(parametersByKind).map(([kind, count]): [string, string] => [
      `  ${kind}`,
      `${formatCount(count)} (${((100 * count) / description.parameters.total).toFixed(1)} %)`,
    ]),
    ["tokens a step", String(result.tokensPerStep)],
    ["operations a step", `${formatCount(result.flopsPerStep)}FLOP`],
    ["memory", `${formatBytes(memory.storeBytes + memory.arenaBytes)} of ${formatBytes(memory.limitBytes)}`],
    ["  weights, moments, sums", formatBytes(memory.storeBytes)],
    ["  activations", formatBytes(memory.arenaBytes)],
    ["a checkpoint", formatBytes(result.checkpointBytes)],
  ];
  if (result.peakFlops !== null && result.secondsPerStep !== null) {
    rows.push(
      ["peak of this machine", `${formatCount(result.peakFlops)}FLOP/s`],
      [
        result.measured ? "a step, measured" : "a step at half of the peak",
        `${result.secondsPerStep.toPrecision(3)} s, ${formatCount(result.tokensPerSecond ?? 0)} tokens/s, ${(100 * (result.utilisation ?? 0)).toFixed(0)} % of peak`,
      ],
    );
  }
  if (result.totalSeconds !== null) rows.push([`${steps} steps`, formatSeconds(result.totalSeconds)]);
  const table = new Table({ style: { head: [], border: [], compact: true } });
  table.push(...rows);
  return table.toString();
}
