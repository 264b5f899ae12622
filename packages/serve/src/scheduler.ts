import { ZayaError } from "@zaya/kernels";
import { createAllocator } from "./pages.js";
import { type LogitRow, pageTokens, type StepBatch, type StepRunner } from "./runner.js";

/** One sequence to run: its tokens, and what is done with the logits. The scheduler knows nothing of text, sampling or HTTP. */
export interface Job {
  readonly promptIds: readonly number[];
  /** Most tokens that `next` will return. Pages for prompt and new tokens are set aside when the job is admitted. */
  readonly maxTokens: number;
  /** What `next` samples at. */
  readonly temperature: number;
  /** Whether `promptRow` wants the logits after every prompt token but the last. */
  readonly wantsPromptRows: boolean;
  /** Logits after prompt token `index`, in order. The row is only valid during the call. */
  promptRow(index: number, logits: LogitRow): void;
  /** Logits after the last token: the next token to run, or null where the job is finished. */
  next(logits: LogitRow): number | null;
  /** The job ends without being finished: the runner failed, the scheduler was disposed, or `promptRow` or `next` threw. */
  fail(error: unknown): void;
}

/** A submitted job. */
export interface Ticket {
  /** Ends the job without calling it again; resolves when its pages and slot are free, at the latest after the running step. */
  cancel(): Promise<void>;
}

export interface SchedulerStats {
  readonly running: number;
  readonly waiting: number;
  readonly pagesUsed: number;
  readonly pagesTotal: number;
  readonly slotsUsed: number;
  readonly slotsTotal: number;
  readonly steps: number;
  /** Prompt tokens that were run, and tokens that were sampled, since the start. */
  readonly promptTokens: number;
  readonly generatedTokens: number;
}

/** Runs many jobs in one batch: decoding sequences first, then chunks of prompts as far as the token budget of a step goes, or a quarter of it where others decode. */
export interface Scheduler extends AsyncDisposable {
  submit(job: Job): Ticket;
  stats(): SchedulerStats;
  /** Resolves when no job is left. */
  idle(): Promise<void>;
}

interface Sequence {
  readonly job: Job;
  /** Prompt, then the sampled tokens. */
  readonly tokens: number[];
  /** How many of them are in the cache. */
  cached: number;
  pages: readonly number[];
  slot: number;
  cancelled: boolean;
  readonly freed: Promise<void>;
  readonly release: () => void;
}

/** Rows of one sequence in one step: tokens `from` to `to`, of which those from `firstLogit` on want logits. */
interface Chunk {
  readonly sequence: Sequence;
  readonly from: number;
  readonly to: number;
  readonly firstLogit: number;
}

/** Makes a scheduler over a runner, which it disposes with itself. `maxBatchTokens` bounds the tokens of a step. */
export function createScheduler(runner: StepRunner, maxBatchTokens = runner.limits.maxTokens): Scheduler {
  const { limits } = runner;
  const maxRunning = Math.min(limits.maxSequences, limits.numSlots, limits.maxLogitRows);
  const budget = Math.min(maxBatchTokens, limits.maxTokens);
  if (budget < maxRunning) {
    throw new ZayaError(
      "INVALID_ARGUMENT",
      `maxBatchTokens ${budget} is less than the ${maxRunning} sequences that may decode in one step`,
    );
  }
  const pages = createAllocator(limits.numPages);
  const slots = createAllocator(maxRunning);
  const waiting: Sequence[] = [];
  let running: Sequence[] = [];
  let loop: Promise<void> | null = null;
  let disposing: Promise<void> | null = null;
  const counts = { steps: 0, promptTokens: 0, generatedTokens: 0 };

  function submit(job: Job): Ticket {
    if (disposing) throw new ZayaError("DISPOSED", "the engine is disposed");
    const needed = pagesFor(job);
    const most = Math.min(limits.numPages, limits.pagesPerSequence);
    if (needed > most) {
      const tokens = job.promptIds.length + job.maxTokens;
      throw new ZayaError(
        "CONTEXT_LENGTH_EXCEEDED",
        `the request may reach ${tokens} tokens; a sequence has room for ${most * pageTokens}`,
      );
    }
    let release = () => {};
    const freed = new Promise<void>((resolve) => {
      release = resolve;
    });
    const sequence: Sequence = { job, tokens: [...job.promptIds], cached: 0, pages: [], slot: -1, cancelled: false, freed, release };
    waiting.push(sequence);
    loop ??= run();
    return {
      cancel() {
        sequence.cancelled = true;
        const at = waiting.indexOf(sequence);
        if (at >= 0) {
          waiting.splice(at, 1);
          release();
        }
        return freed;
      },
    };
  }

  async function run(): Promise<void> {
    // Requests made in the same turn share the first step.
    await Promise.resolve();
    while (waiting.length > 0 || running.length > 0) {
      for (const sequence of running.filter((s) => s.cancelled)) free(sequence);
      admit();
      const chunks = planStep(running, budget, limits.maxLogitRows);
      if (chunks.length > 0) await step(chunks);
      if (disposing) abandon();
    }
    loop = null;
  }

  function admit(): void {
    for (let first = waiting[0]; first && slots.free > 0; first = waiting[0]) {
      const taken = pages.take(pagesFor(first.job));
      if (!taken) return;
      waiting.shift();
      first.pages = taken;
      first.slot = (slots.take(1) as [number])[0];
      running.push(first);
    }
  }

  async function step(chunks: readonly Chunk[]): Promise<void> {
    const batch = buildBatch(chunks, limits.pagesPerSequence);
    let logits: readonly LogitRow[];
    try {
      logits = await runner.run(batch);
    } catch (error) {
      for (const { sequence } of chunks) end(sequence, error);
      return;
    }
    counts.steps++;
    let row = 0;
    for (const chunk of chunks) {
      const { sequence, from, to, firstLogit } = chunk;
      const rows = logits.slice(row, row + to - firstLogit);
      row += to - firstLogit;
      counts.promptTokens += Math.max(0, Math.min(to, sequence.job.promptIds.length) - from);
      sequence.cached = to;
      if (sequence.cancelled || disposing) continue;
      try {
        deliver(chunk, rows);
      } catch (error) {
        end(sequence, error);
      }
    }
  }

  function deliver({ sequence, to, firstLogit }: Chunk, rows: readonly LogitRow[]): void {
    const { job, tokens } = sequence;
    for (let index = firstLogit; index < to; index++) {
      const row = rows[index - firstLogit] as LogitRow;
      if (index < tokens.length - 1) {
        job.promptRow(index, row);
        continue;
      }
      const next = job.next(row);
      if (next === null) {
        if (job.maxTokens > 0) counts.generatedTokens++;
        free(sequence);
        return;
      }
      counts.generatedTokens++;
      tokens.push(next);
      return;
    }
  }

  function free(sequence: Sequence): void {
    running = running.filter((other) => other !== sequence);
    pages.give(sequence.pages);
    slots.give([sequence.slot]);
    sequence.release();
  }

  function end(sequence: Sequence, error: unknown): void {
    free(sequence);
    if (!sequence.cancelled) sequence.job.fail(error);
  }

  function abandon(): void {
    const error = new ZayaError("DISPOSED", "the engine was disposed before the request was finished");
    for (const sequence of [...running]) end(sequence, error);
    for (const sequence of waiting.splice(0)) {
      sequence.release();
      sequence.job.fail(error);
    }
  }

  async function dispose(): Promise<void> {
    while (loop) await loop;
    await runner[Symbol.asyncDispose]();
  }

  return {
    submit,
    stats: () => ({
      running: running.length,
      waiting: waiting.length,
      pagesUsed: pages.total - pages.free,
      pagesTotal: pages.total,
      slotsUsed: slots.total - slots.free,
      slotsTotal: slots.total,
      ...counts,
    }),
    async idle() {
      while (loop) await loop;
    },
    [Symbol.asyncDispose]() {
      disposing ??= dispose();
      return disposing;
    },
  };
}

/** Pages for the prompt and every token that may be run after it (the last sampled token is never run). */
function pagesFor(job: Job): number {
  return Math.ceil((job.promptIds.length + Math.max(0, job.maxTokens - 1)) / pageTokens);
}

/**
 * Prompt tokens of a step in which others decode: a quarter of the budget keeps them waiting a quarter as long, and costs a prompt an eighth more time
 * (512 tokens of ZAYA1-8B in q4 in steps of 512, 128 and 64: 2.5, 2.9 and 3.3 s on one thread of an EPYC with AVX-512); fewer than 64 cost too much,
 * since every step reads most experts.
 */
const besideDecoding = (maxTokens: number) => Math.max(64, Math.floor(maxTokens / 4));

/**
 * What runs in the next step: one token of every decoding sequence, then prompts in the order of admission, cut where the budget of tokens or of
 * logit rows ends. One logit row is kept for each running sequence, so a long scored prompt never holds up the others.
 */
function planStep(running: readonly Sequence[], maxTokens: number, maxLogitRows: number): Chunk[] {
  const chunks: Chunk[] = [];
  let tokens = maxTokens;
  let spareRows = maxLogitRows - running.length;
  const decoding = (s: Sequence) => s.tokens.length > s.job.promptIds.length;
  for (const sequence of running) {
    if (!decoding(sequence)) continue;
    chunks.push({ sequence, from: sequence.cached, to: sequence.cached + 1, firstLogit: sequence.cached });
    tokens--;
  }
  if (chunks.length > 0) tokens = Math.min(tokens, besideDecoding(maxTokens));
  for (const sequence of running) {
    if (decoding(sequence) || tokens === 0) continue;
    const from = sequence.cached;
    const end = sequence.tokens.length;
    let to = Math.min(end, from + tokens);
    // The sequence's own row may go to any of its chunk's tokens; the others are spare ones.
    if (sequence.job.wantsPromptRows) {
      to = Math.min(to, from + spareRows + 1);
      spareRows -= to - from - 1;
    }
    const firstLogit = sequence.job.wantsPromptRows ? from : to === end ? end - 1 : to;
    chunks.push({ sequence, from, to, firstLogit });
    tokens -= to - from;
  }
  return chunks;
}

/** The arrays of a step, in the order of its chunks. */
function buildBatch(chunks: readonly Chunk[], pagesPerSequence: number): StepBatch {
  const total = chunks.reduce((sum, { from, to }) => sum + to - from, 0);
  const rows = chunks.reduce((sum, { to, firstLogit }) => sum + to - firstLogit, 0);
  const batch: StepBatch = {
    ids: new Int32Array(total),
    positions: new Int32Array(total),
    cuSeqlens: new Int32Array(chunks.length + 1),
    slots: new Int32Array(chunks.length),
    cached: new Int32Array(chunks.length),
    pageTable: new Int32Array(chunks.length * pagesPerSequence),
    logitRows: new Int32Array(rows),
    temperatures: new Float32Array(rows).fill(1),
  };
  let at = 0;
  let row = 0;
  chunks.forEach(({ sequence, from, to, firstLogit }, s) => {
    for (let index = from; index < to; index++, at++) {
      batch.ids[at] = sequence.tokens[index] as number;
      batch.positions[at] = index;
      if (index < firstLogit) continue;
      if (index === sequence.tokens.length - 1) batch.temperatures[row] = sequence.job.temperature;
      batch.logitRows[row++] = at;
    }
    batch.cuSeqlens[s + 1] = at;
    batch.slots[s] = sequence.slot;
    batch.cached[s] = from;
    batch.pageTable.set(sequence.pages, s * pagesPerSequence);
  });
  return batch;
}
