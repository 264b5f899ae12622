import type { MeasuredSlice } from "@zaya/kernels";
import type { Test } from "./bench_tests.js";
import type { BenchDetails } from "./inspect.js";
import { stepBatch } from "./steps.js";
import { runPrompt, type Subject } from "./subject.js";
import { prefillFlops } from "./work.js";

/** Generation stops this often to look at the machine's limit. */
const sliceMilliseconds = 400;

/** One repetition of a test, in slices that each lie between two measurements of the limit. Their work is in 10⁹ bytes or operations. */
export async function repeat(subject: Subject, test: Test, { limitedBy, bytes }: BenchDetails): Promise<MeasuredSlice[]> {
  const { runner, meter, draw, config, signal } = subject;
  const slices: MeasuredSlice[] = [];
  let before = await meter.measure(limitedBy);
  const slice = async (run: () => Promise<number>) => {
    const begin = performance.now();
    const work = (await run()) / 1e9;
    const seconds = (performance.now() - begin) / 1000;
    const after = await meter.measure(limitedBy);
    slices.push({ seconds, work, before, after });
    before = after;
  };
  if (test.kind === "pp") {
    await slice(async () => {
      await runPrompt(subject, test.depth, test.tokens);
      return prefillFlops(config, test.depth, test.tokens);
    });
    return slices;
  }
  for (let done = 0; done < test.tokens; ) {
    await slice(async () => {
      const from = done;
      for (const begin = performance.now(); done < test.tokens && performance.now() - begin < sliceMilliseconds; done++) {
        signal?.throwIfAborted();
        await runner.run(stepBatch(runner.limits, test.batch, test.depth + done, 1, draw));
      }
      return (done - from) * (bytes?.total ?? 0);
    });
  }
  return slices;
}
