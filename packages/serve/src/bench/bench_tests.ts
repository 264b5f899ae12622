import { ZayaError } from "@zaya/kernels";
import { pageTokens, type RunnerLimits } from "../runner.js";

/** What is to be measured: every prompt, and every number of tokens with every batch, at every depth. */
export interface TestOptions {
  /** Lengths of prompts; 0 is none. Default [512]. */
  readonly prompt?: readonly number[] | undefined;
  /** Numbers of tokens to generate; 0 is none. Default [128]. */
  readonly generate?: readonly number[] | undefined;
  /** Tokens in the cache before. Default [0]. */
  readonly depths?: readonly number[] | undefined;
  /** Sequences that generate at once; prompts are read one at a time. Default [1, 8]. */
  readonly batches?: readonly number[] | undefined;
  /** Default 5. */
  readonly repetitions?: number | undefined;
}

/** One row of the table: "pp" reads a prompt of `tokens`, "tg" generates as many in each of `batch` sequences. */
export interface Test {
  readonly kind: "pp" | "tg";
  readonly tokens: number;
  readonly batch: number;
  readonly depth: number;
}

/** Tokens of one step of a prompt. */
export const chunkTokens = 512;

/**
 * Every test, the shallow ones first: what one wrote to the cache is what the next begins with.
 *
 * @throws INVALID_ARGUMENT where a number is out of its range, nothing is left to measure, or a test is longer than `maxPositions` tokens
 */
export function planTests(
  { prompt = [512], generate = [128], depths = [0], batches = [1, 8], repetitions = 5 }: TestOptions,
  maxPositions: number,
): Test[] {
  for (const [name, values, min] of [
    ["prompt", prompt, 0],
    ["generate", generate, 0],
    ["depths", depths, 0],
    ["batches", batches, 1],
    ["repetitions", [repetitions], 1],
  ] as const) {
    const wrong = values.find((value) => !Number.isInteger(value) || value < min);
    if (wrong !== undefined) throw new ZayaError("INVALID_ARGUMENT", `${name} must be whole numbers ≥ ${min}, received ${wrong}`);
  }
  const tests = [...depths]
    .sort((a, b) => a - b)
    .flatMap((depth): Test[] => [
      ...prompt.map((tokens): Test => ({ kind: "pp", tokens, batch: 1, depth })),
      ...generate.flatMap((tokens) => batches.map((batch): Test => ({ kind: "tg", tokens, batch, depth }))),
    ])
    .filter(({ tokens }) => tokens > 0);
  if (tests.length === 0)
    throw new ZayaError("INVALID_ARGUMENT", "there is nothing to measure: give the length of a prompt or of what to generate");
  for (const { kind, tokens, depth } of tests) {
    if (depth + tokens > maxPositions)
      throw new ZayaError(
        "INVALID_ARGUMENT",
        `${kind}${tokens} at depth ${depth} is longer than the ${maxPositions} tokens the model was made for`,
      );
  }
  return tests;
}

/** The largest step of the tests, and a cache for the longest of them in every sequence. */
export function limitsOf(tests: readonly Test[]): Omit<RunnerLimits, "vocabSize"> {
  const sequences = Math.max(...tests.map(({ batch }) => batch));
  const pagesPerSequence = Math.ceil(Math.max(...tests.map(({ depth, tokens }) => depth + tokens)) / pageTokens);
  return {
    maxTokens: Math.max(chunkTokens, sequences),
    maxSequences: sequences,
    maxLogitRows: sequences,
    numSlots: sequences,
    numPages: sequences * pagesPerSequence,
    pagesPerSequence,
  };
}
