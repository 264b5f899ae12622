import { type Limits, type MeasuredSlice, median, shareOfLimit } from "@zaya/kernels";
import { describe, type ParameterSpec, storedType } from "@zaya/model";
import type { CacheDtype } from "../model_runner.js";
import { chunkTokens, type Test } from "./bench_tests.js";
import { type ExpertUse, expertUse } from "./routing.js";
import { stepBatch } from "./steps.js";
import { mainProduct, type Subject } from "./subject.js";
import { decodeStepBytes, piecesOf, type StepBytes } from "./work.js";

/** What is behind a result. */
export interface BenchDetails {
  /** The limit that bounds it. */
  readonly limitedBy: keyof Limits;
  /** Type of cached keys and values. */
  readonly cacheDtype: CacheDtype;
  /** Bytes of one step; null for a prompt. */
  readonly bytes: StepBytes | null;
  /** Share of the limit that a loop reaches which only reads as many bytes in as many pieces (`Device.measureReads`); null for a prompt. */
  readonly readsOnly: number | null;
  /** Time of a token to that of one after an empty context, measured in turn; null for a prompt and at depth 0. */
  readonly ratioToEmptyContext: number | null;
  /** Time that each kind of operation takes in one step (of a prompt: up to 512 of its tokens), the longest first. */
  readonly operations: readonly { readonly name: string; readonly milliseconds: number }[];
  /** Null in a dense model. */
  readonly experts: ExpertUse | null;
}

/** Steps that are looked into for the time of operations and the experts in use. */
const inspectedSteps = 8;

/** Pairs of steps by which a depth is compared with an empty context. */
const comparedSteps = 32;

/** Looks into a few steps, after one that touches what is looked into for the first time. */
export async function inspect(subject: Subject, test: Test): Promise<BenchDetails> {
  const { kind, tokens, batch, depth } = test;
  const { runner, draw, cacheDtype, config, signal } = subject;
  const nanoseconds = new Map<string, number>();
  const routing: (readonly Int32Array[])[] = [];
  const steps = kind === "pp" ? 2 : Math.min(inspectedSteps, tokens);
  const rows = kind === "pp" ? Math.min(chunkTokens, tokens) : 1;
  const look = (step: number) => runner.inspect(stepBatch(runner.limits, batch, depth + (kind === "pp" ? 0 : step), rows, draw));
  await look(0);
  for (let step = 0; step < steps; step++) {
    signal?.throwIfAborted();
    const seen = await look(step);
    for (const [name, each] of seen.nanoseconds) nanoseconds.set(name, (nanoseconds.get(name) ?? 0) + each);
    routing.push(seen.experts);
  }
  const operations = [...nanoseconds]
    .map(([name, all]) => ({ name, milliseconds: all / steps / 1e6 }))
    .sort((a, b) => b.milliseconds - a.milliseconds);
  const experts = config.kind === "zaya" ? expertUse(routing, config.numExperts) : null;
  if (kind === "pp")
    return {
      limitedBy: mainProduct(runner).operands,
      cacheDtype,
      bytes: null,
      readsOnly: null,
      ratioToEmptyContext: null,
      operations,
      experts,
    };
  const typeOf = (spec: ParameterSpec) => storedType(spec, runner.weights);
  const description = describe(config, { typeOf, cacheDtype, context: Math.round(depth + (tokens + 1) / 2) });
  const bytes = decodeStepBytes(description, batch, experts?.distinct ?? 1);
  return {
    limitedBy: "read",
    cacheDtype,
    bytes,
    readsOnly: await readsOnly(subject, piecesOf(bytes, config.numLayers)),
    ratioToEmptyContext: depth > 0 ? await ratioToEmptyContext(subject, test) : null,
    operations,
    experts,
  };
}

/** The median of pairs, since the machine may change its speed between two of them. */
async function ratioToEmptyContext({ runner, draw, signal }: Subject, { tokens, batch, depth }: Test): Promise<number> {
  const milliseconds = async (cached: number) => {
    signal?.throwIfAborted();
    const begin = performance.now();
    await runner.run(stepBatch(runner.limits, batch, cached, 1, draw));
    return performance.now() - begin;
  };
  const ratios: number[] = [];
  for (let pair = 0; pair < comparedSteps; pair++) {
    const empty = await milliseconds(pair % tokens);
    ratios.push((await milliseconds(depth + (pair % tokens))) / empty);
  }
  return median(ratios);
}

async function readsOnly({ runner, meter, signal }: Subject, pieces: readonly number[]): Promise<number> {
  const slices: MeasuredSlice[] = [];
  let before = await meter.measure("read");
  for (let slice = 0; slice < 5; slice++) {
    signal?.throwIfAborted();
    const work = await runner.device.measureReads(pieces, 100, { keepBuffer: true });
    const after = await meter.measure("read");
    slices.push({ seconds: 1, work, before, after });
    before = after;
  }
  return shareOfLimit(slices);
}
