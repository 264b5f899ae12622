import { expect, test } from "vitest";
import { uniform } from "./random.js";
import { createScheduler, type Job, type Scheduler, type Ticket } from "./scheduler.js";
import { createToyRunner } from "./testing.js";

interface Outcome {
  tokens: number[];
  /** Copies of every row of logits the job saw, in order. */
  rows: Float32Array[];
  error?: unknown;
}

/** Submits a greedy job and records what it sees. */
function submit(
  scheduler: Scheduler,
  promptIds: readonly number[],
  maxTokens: number,
  options: Partial<Job> = {},
): { done: Promise<Outcome>; ticket: Ticket; seen: Outcome } {
  const seen: Outcome = { tokens: [], rows: [] };
  let finish: (outcome: Outcome) => void = () => {};
  const done = new Promise<Outcome>((resolve) => {
    finish = resolve;
  });
  const ticket = scheduler.submit({
    promptIds,
    maxTokens,
    temperature: 1,
    wantsPromptRows: false,
    promptRow(_, row) {
      seen.rows.push(row.logits().slice());
    },
    next(row) {
      seen.rows.push(row.logits().slice());
      if (maxTokens > 0) seen.tokens.push(row.ids[0] as number);
      if (seen.tokens.length < maxTokens) return seen.tokens.at(-1) as number;
      finish(seen);
      return null;
    },
    fail(error) {
      seen.error = error;
      finish(seen);
    },
    ...options,
  });
  return { done, ticket, seen };
}

const prompt = (length: number, seed: number) => Array.from({ length }, (_, i) => Math.floor(uniform(seed, 1, i) * 50));

function expectFree(scheduler: Scheduler): void {
  expect(scheduler.stats()).toMatchObject({ running: 0, waiting: 0, pagesUsed: 0, slotsUsed: 0 });
}

test("gives each of many mixed requests exactly what it gets alone", async () => {
  const requests = Array.from({ length: 30 }, (_, i) => ({
    ids: prompt(1 + Math.floor(uniform(3, 0, i) * 120), i),
    maxTokens: 1 + (i % 17),
    scored: i % 3 === 0,
  }));
  const together = createScheduler(createToyRunner());
  const batched = await Promise.all(
    requests.map(({ ids, maxTokens, scored }) => submit(together, ids, maxTokens, { wantsPromptRows: scored }).done),
  );
  for (const [i, { ids, maxTokens, scored }] of requests.entries()) {
    const alone = createScheduler(createToyRunner({ maxTokens: 512, maxLogitRows: 512 }));
    const expected = await submit(alone, ids, maxTokens, { wantsPromptRows: scored }).done;
    expect(batched[i]).toEqual(expected);
    expect(batched[i]?.rows.length).toBe(maxTokens + (scored ? ids.length - 1 : 0));
  }
  await together.idle();
  expectFree(together);
});

test("fills steps with chunks of prompts up to the budget, decoding first", async () => {
  const runner = createToyRunner({ maxTokens: 16, maxLogitRows: 8 });
  const scheduler = createScheduler(runner);
  const short = submit(scheduler, prompt(3, 1), 6);
  const long = submit(scheduler, prompt(40, 2), 2);
  await Promise.all([short.done, long.done]);
  // Step 1: the short prompt and 13 tokens of the long one; then 1 decoding token and 15 more; 12 end the prompt.
  expect(runner.batches.slice(0, 3).map((b) => [...b.cuSeqlens])).toEqual([
    [0, 3, 16],
    [0, 1, 16],
    [0, 1, 13],
  ]);
  expect(runner.batches.map((b) => b.logitRows.length).slice(0, 3)).toEqual([1, 1, 2]);
  expect([...(runner.batches[1]?.cached ?? [])]).toEqual([3, 13]);
});

test("reads prompts in smaller chunks while others decode", async () => {
  const runner = createToyRunner({ maxTokens: 512, pagesPerSequence: 32, vocabSize: 50 });
  const scheduler = createScheduler(runner);
  const [decoding, long] = [submit(scheduler, prompt(3, 1), 4), submit(scheduler, prompt(1000, 2), 1)];
  await Promise.all([decoding.done, long.done]);
  expect(runner.batches.map((b) => [...b.cuSeqlens])).toEqual([
    [0, 3, 512],
    [0, 1, 129],
    [0, 1, 129],
    [0, 1, 129],
    [0, 107],
  ]);
});

test("waits for pages, in the order of submission, and uses them again", async () => {
  const runner = createToyRunner({ numPages: 4 });
  const scheduler = createScheduler(runner);
  const order: number[] = [];
  const jobs = [60, 90, 20, 100].map((length, i) => submit(scheduler, prompt(length, i), 4).done.then(() => order.push(i)));
  await Promise.resolve();
  expect(scheduler.stats()).toMatchObject({ running: 1, waiting: 3 });
  await Promise.all(jobs);
  // 60 takes two pages; 90 needs three and waits; 20 would fit but never overtakes.
  expect(order).toEqual([0, 1, 2, 3]);
  await scheduler.idle();
  expectFree(scheduler);
});

test("refuses a request that can never fit", () => {
  const scheduler = createScheduler(createToyRunner({ pagesPerSequence: 2 }));
  expect(() => submit(scheduler, prompt(60, 0), 6)).toThrow(expect.objectContaining({ code: "CONTEXT_LENGTH_EXCEEDED" }));
  expect(() => submit(scheduler, prompt(60, 0), 5)).not.toThrow();
});

test("frees pages and slot of a cancelled request after the running step, and never calls it again", async () => {
  const scheduler = createScheduler(createToyRunner({ maxSequences: 2, numSlots: 2 }));
  const first = submit(scheduler, prompt(10, 1), 100);
  const second = submit(scheduler, prompt(10, 2), 5);
  const queued = submit(scheduler, prompt(10, 3), 5);
  const third = submit(scheduler, prompt(10, 4), 5);
  while (first.seen.tokens.length < 2) await new Promise((resolve) => setImmediate(resolve));
  await queued.ticket.cancel();
  await first.ticket.cancel();
  const length = first.seen.tokens.length;
  await Promise.all([second.done, third.done]);
  expect(first.seen.tokens.length).toBe(length);
  expect(queued.seen.rows).toEqual([]);
  await scheduler.idle();
  expectFree(scheduler);
});

test("leaves nothing behind after a hundred requests of which half are aborted at random", async () => {
  const scheduler = createScheduler(createToyRunner({ numPages: 20 }));
  const requests = Array.from({ length: 100 }, (_, i) => submit(scheduler, prompt(1 + ((i * 7) % 90), i), 1 + ((i * 5) % 30)));
  const ends = requests.map(({ done, ticket }, i) => {
    if (i % 2 === 0) return done;
    return (async () => {
      for (let turns = Math.floor(uniform(8, 0, i) * 200); turns > 0; turns--) await new Promise((resolve) => setImmediate(resolve));
      await ticket.cancel();
    })();
  });
  await Promise.all(ends);
  await scheduler.idle();
  expectFree(scheduler);
});

test("hands a failed step to the requests in it and goes on", async () => {
  const runner = createToyRunner();
  const scheduler = createScheduler(runner);
  const first = submit(scheduler, prompt(10, 1), 5);
  runner.failNext = new Error("out of order");
  expect((await first.done).error).toMatchObject({ message: "out of order" });
  expect((await submit(scheduler, prompt(10, 2), 5).done).error).toBeUndefined();
  await scheduler.idle();
  expectFree(scheduler);
});

test("hands an error of sampling to its own request only", async () => {
  const scheduler = createScheduler(createToyRunner());
  const bad = submit(scheduler, prompt(5, 1), 5, {
    next() {
      throw new Error("not finite");
    },
  });
  const good = submit(scheduler, prompt(5, 2), 5);
  expect((await bad.done).error).toMatchObject({ message: "not finite" });
  expect((await good.done).tokens.length).toBe(5);
});

test("scores a prompt without sampling when no token is wanted", async () => {
  const scheduler = createScheduler(createToyRunner());
  const { tokens, rows } = await submit(scheduler, prompt(20, 1), 0, { wantsPromptRows: true }).done;
  expect(tokens).toEqual([]);
  expect(rows.length).toBe(20);
  expect(scheduler.stats().generatedTokens).toBe(0);
});

test("rejects running and waiting requests with DISPOSED, and disposes the runner last", async () => {
  const runner = createToyRunner({ maxSequences: 1, numSlots: 1 });
  const scheduler = createScheduler(runner);
  const running = submit(scheduler, prompt(5, 1), 200);
  const queued = submit(scheduler, prompt(5, 2), 5);
  while (running.seen.tokens.length < 3) await new Promise((resolve) => setImmediate(resolve));
  await scheduler[Symbol.asyncDispose]();
  expect((await running.done).error).toMatchObject({ code: "DISPOSED" });
  expect((await queued.done).error).toMatchObject({ code: "DISPOSED" });
  expect(runner.disposed).toBe(true);
  expectFree(scheduler);
  expect(() => submit(scheduler, [1], 1)).toThrow(expect.objectContaining({ code: "DISPOSED" }));
});

test("a second call to dispose it waits for the end of the first", async () => {
  const runner = createToyRunner();
  const scheduler = createScheduler(runner);
  const running = submit(scheduler, prompt(5, 1), 200);
  while (running.seen.tokens.length < 3) await new Promise((resolve) => setImmediate(resolve));
  const first = scheduler[Symbol.asyncDispose]();
  await scheduler[Symbol.asyncDispose]();
  expect(runner.disposed).toBe(true);
  await first;
});

test("refuses a budget below the number of sequences", () => {
  expect(() => createScheduler(createToyRunner(), 4)).toThrow("less than the 8 sequences");
});
