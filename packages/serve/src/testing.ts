import { loadTokenizer, type Tokenizer, type TokenizerFiles, trainTokenizer } from "@zaya/model";
import { assembleEngine, type Engine } from "./engine.js";
import { type LogitRow, logitChunk, numRanked, pageTokens, type RunnerLimits, type StepBatch, type StepRunner } from "./runner.js";

/** What a toy runner was asked, for tests to look at. */
export interface ToyRunner extends StepRunner {
  readonly batches: StepBatch[];
  disposed: boolean;
  /** Makes the next step fail. */
  failNext: Error | null;
}

/**
 * A deterministic stand-in for a model, for tests of scheduling: it keeps tokens in pages and a running hash in slots exactly as a model keeps keys and
 * states, and its logits are a hash of all tokens up to the row. A wrong page, slot, position or length changes every later token.
 */
export function createToyRunner(limits: Partial<RunnerLimits> = {}): ToyRunner {
  const all: RunnerLimits = {
    maxTokens: 64,
    maxSequences: 8,
    maxLogitRows: 16,
    numPages: 64,
    numSlots: 8,
    pagesPerSequence: 8,
    vocabSize: 50,
    ...limits,
  };
  const pages = new Int32Array(all.numPages * pageTokens).fill(-1);
  const slots = new Int32Array(all.numSlots);
  const runner: ToyRunner = {
    limits: all,
    batches: [],
    disposed: false,
    failNext: null,
    async run(batch) {
      await new Promise((resolve) => setImmediate(resolve));
      runner.batches.push(batch);
      const failure = runner.failNext;
      runner.failNext = null;
      if (failure) throw failure;
      check(batch, all);
      const hashes = new Int32Array(batch.ids.length);
      for (let s = 0; s < batch.slots.length; s++) {
        const slot = batch.slots[s] as number;
        const from = batch.cuSeqlens[s] as number;
        const cached = batch.cached[s] as number;
        const place = (position: number) =>
          (batch.pageTable[s * all.pagesPerSequence + Math.floor(position / pageTokens)] as number) * pageTokens + (position % pageTokens);
        for (let t = from; t < (batch.cuSeqlens[s + 1] as number); t++) {
          const position = batch.positions[t] as number;
          if (position !== cached + t - from) throw new Error(`sequence ${s}: position ${position}, expected ${cached + t - from}`);
          pages[place(position)] = batch.ids[t] as number;
          let hash = 17;
          for (let p = 0; p <= position; p++) hash = mix(hash, pages[place(p)] as number);
          slots[slot] = mix(position === 0 ? 17 : (slots[slot] as number), batch.ids[t] as number);
          if (slots[slot] !== hash) throw new Error(`sequence ${s}: its pages and its slot disagree at position ${position}`);
          hashes[t] = hash;
        }
      }
      return Array.from(batch.logitRows, (row, r) => {
        const logits = Float32Array.from({ length: all.vocabSize }, (_, v) => ((mix(hashes[row] as number, v) >>> 8) % 4096) / 512);
        return rankLogits(logits, batch.temperatures[r]);
      });
    },
    async [Symbol.asyncDispose]() {
      runner.disposed = true;
    },
  };
  return runner;
}

/** A row as a runner gives it, by sorting all logits. */
export function rankLogits(logits: Float32Array, temperature = 1): LogitRow {
  const ids = Int32Array.from(
    [...logits.keys()].sort((a, b) => (logits[b] as number) - (logits[a] as number) || a - b).slice(0, numRanked),
  );
  const values = Float32Array.from(ids, (id) => logits[id] as number);
  const sumAt = (t: number, part = logits) => part.reduce((sum, logit) => sum + Math.exp((logit - (values[0] as number)) / t), 0);
  return {
    size: logits.length,
    values,
    ids,
    sum: sumAt(1),
    temperedSum: temperature === 0 ? 1 : sumAt(temperature),
    masses: Float32Array.from({ length: Math.ceil(logits.length / logitChunk) }, (_, chunk) =>
      temperature === 0 ? 0 : sumAt(temperature, logits.subarray(chunk * logitChunk, (chunk + 1) * logitChunk)),
    ),
    logits: (begin, end) => logits.subarray(begin, end),
  };
}

function mix(hash: number, token: number): number {
  let mixed = Math.imul(hash ^ (token + 0x9e3779b9), 0x85ebca6b);
  mixed ^= mixed >>> 13;
  return Math.imul(mixed, 0xc2b2ae35) ^ (mixed >>> 16);
}

function check(batch: StepBatch, limits: RunnerLimits): void {
  const sequences = batch.slots.length;
  const within = (what: string, value: number, max: number) => {
    if (value > max) throw new Error(`${what}: ${value} is more than ${max}`);
  };
  within("tokens", batch.ids.length, limits.maxTokens);
  within("sequences", sequences, limits.maxSequences);
  within("logit rows", batch.logitRows.length, limits.maxLogitRows);
  if (new Set(batch.slots).size !== sequences) throw new Error("two sequences share a slot");
  const owner = new Map<number, number>();
  for (let s = 0; s < sequences; s++) {
    const length = (batch.cached[s] as number) + (batch.cuSeqlens[s + 1] as number) - (batch.cuSeqlens[s] as number);
    for (const page of batch.pageTable.subarray(
      s * limits.pagesPerSequence,
      s * limits.pagesPerSequence + Math.ceil(length / pageTokens),
    )) {
      if (owner.has(page)) throw new Error(`sequences ${owner.get(page)} and ${s} share page ${page}`);
      owner.set(page, s);
    }
  }
}

function trainToyTokenizer(): Promise<TokenizerFiles> {
  return trainTokenizer(["the quick brown fox jumps over the lazy dog", "the more the merrier"], { vocabSize: 270 });
}

/** A small byte-level tokenizer with a chat template; the same each time. */
async function createToyTokenizer(): Promise<Tokenizer> {
  return loadTokenizer(await trainToyTokenizer());
}

export interface ToyEngine {
  readonly engine: Engine;
  readonly runner: ToyRunner;
}

/** An engine over a toy runner and the toy tokenizer, for tests of everything above the model. */
export async function createToyEngine(
  limits: Partial<RunnerLimits> = {},
  contextTokens = 256,
  id = "toy",
  maxWaiting?: number,
): Promise<ToyEngine> {
  const tokenizer = await createToyTokenizer();
  const runner = createToyRunner({ vocabSize: tokenizer.vocabSize, pagesPerSequence: contextTokens / pageTokens, ...limits });
  const engine = assembleEngine({
    runner,
    tokenizer,
    memory: { weights: 0, mapped: 0, mappedHuge: 0, cache: 0, step: 0 },
    maxWaiting,
    model: {
      id,
      created: 1_700_000_000,
      vocabSize: tokenizer.vocabSize,
      contextTokens,
      eosTokenIds: [tokenizer.eosTokenId as number],
      totalParameters: 0,
      activeParameters: 0,
      dtype: "float32",
      cacheDtype: "float32",
      isa: "none",
      isaReason: "a toy has no kernels",
      products: [],
      typesReason: "a toy has no weights",
      threads: 1,
      expected: null,
    },
  });
  return { engine, runner };
}

/** An engine whose tokenizer drops a space at the start of a text, as that of Llama 2, and whose answers are one word after a space again and again. */
export async function createSpacedEngine(): Promise<{ readonly engine: Engine; readonly word: string }> {
  const files = await trainToyTokenizer();
  const json = JSON.parse(String(files["tokenizer.json"])) as object;
  const replace = { type: "Replace", pattern: { String: "Ġ" }, content: " " };
  const decoder = { type: "Sequence", decoders: [replace, { type: "Strip", content: " ", start: 1, stop: 0 }] };
  const tokenizer = await loadTokenizer({ ...files, "tokenizer.json": JSON.stringify({ ...json, decoder }) });
  const [spaced = 0] = tokenizer.encode(" the", { addSpecialTokens: false });
  const logits = Float32Array.from({ length: tokenizer.vocabSize }, (_, id) => Number(id === spaced));
  const { engine: toy, runner } = await createToyEngine();
  const spacedRunner = { ...runner, run: async (batch: StepBatch) => Array.from(batch.logitRows, () => rankLogits(logits)) };
  const engine = assembleEngine({ runner: spacedRunner, tokenizer, model: toy.model, memory: toy.stats().memory });
  return { engine, word: tokenizer.decode([spaced]) };
}

/** An engine that always answers with these pieces, each in as many tokens as it takes, and ends; with a chat template of its own where one is given. */
export async function createScriptedEngine(pieces: readonly string[], template?: string): Promise<Engine> {
  const files = await trainToyTokenizer();
  const tokenizer = await loadTokenizer(template === undefined ? files : { ...files, "chat_template.jinja": template });
  const script = pieces.flatMap((piece) => [...tokenizer.encode(piece, { addSpecialTokens: false })]);
  const { engine: toy, runner } = await createToyEngine();
  const promptLengths = new Map<number, number>();
  const scripted: StepRunner = {
    ...runner,
    run: async ({ slots, cached, cuSeqlens, positions, logitRows }) => {
      const nextOfRow = new Map<number, number>();
      slots.forEach((slot, s) => {
        const [from = 0, to = 0] = cuSeqlens.subarray(s, s + 2);
        if (cached[s] === 0) promptLengths.set(slot, to - from);
        nextOfRow.set(to - 1, (positions[to - 1] as number) + 1 - (promptLengths.get(slot) as number));
      });
      return Array.from(logitRows, (row) => {
        const next = script[nextOfRow.get(row) as number] ?? tokenizer.eosTokenId;
        return rankLogits(Float32Array.from({ length: tokenizer.vocabSize }, (_, id) => (id === next ? 100 : 0)));
      });
    },
  };
  return assembleEngine({ runner: scripted, tokenizer, model: toy.model, memory: toy.stats().memory });
}
