import type { Tokenizer } from "@zaya/model";
import { decodeAnswer } from "./answer_decoder.js";
import { type ScoredToken, scoreToken } from "./logprobs.js";
import { createReasoningSplitter, endsInThought } from "./reasoning.js";
import type { GenerateEvent, ParsedRequest } from "./request.js";
import { sampleToken } from "./sampler.js";
import type { Job } from "./scheduler.js";
import { createStopMatcher } from "./stop.js";

/** A request with its prompt in tokens and every bound known. */
export interface PreparedRequest {
  readonly request: ParsedRequest;
  readonly promptIds: readonly number[];
  readonly maxTokens: number;
  readonly seed: number;
  /** Tokens that end it: the model's, unless ignored, and the request's. */
  readonly endTokenIds: ReadonlySet<number>;
}

/** One request on its way from logits to events. */
export interface Generation {
  readonly job: Job;
  /** The next event; rejects where the job failed. */
  next(): Promise<GenerateEvent>;
}

/** Makes the job that samples, decodes, watches for stop strings, tells thoughts from answers and scores, and the queue its events come out of. */
export function createGeneration(prepared: PreparedRequest, tokenizer: Tokenizer): Generation {
  const { request, promptIds, maxTokens, seed, endTokenIds } = prepared;
  const sampling = {
    temperature: request.temperature,
    topK: request.topK,
    topP: request.topP,
    minP: request.minP,
    seed,
    stream: request.choice,
  };
  const queue = createQueue();
  const matcher = createStopMatcher(request.stop);
  const decoder = decodeAnswer(tokenizer, promptIds, request);
  const splitter = request.separateReasoning ? createReasoningSplitter(endsInThought(tokenizer, promptIds)) : null;
  const promptScores: (ScoredToken | null)[] = [null];
  let completionTokens = 0;
  let text = "";
  let reasoning = "";

  function promptEnd(): void {
    queue.push({ type: "prompt-end", tokenIds: promptIds, ...(request.promptLogprobs === undefined ? {} : { logprobs: promptScores }) });
  }
  function end(finishReason: "stop" | "length", stopReason: string | number | null): null {
    const reasoningTokens = splitter?.reasoningTokens() ?? null;
    const usage = { promptTokens: promptIds.length, completionTokens, ...(reasoningTokens === null ? {} : { reasoningTokens }) };
    queue.push({ type: "generate-end", finishReason, stopReason, text, ...(reasoningTokens === null ? {} : { reasoning }), usage });
    return null;
  }

  const job: Job = {
    promptIds,
    maxTokens,
    temperature: request.temperature,
    wantsPromptRows: request.promptLogprobs !== undefined,
    promptRow(index, logits) {
      promptScores.push(scoreToken(logits, promptIds[index + 1] as number, request.promptLogprobs as number));
    },
    next(logits) {
      if (maxTokens === 0) {
        promptEnd();
        return end("length", null);
      }
      const tokenId = sampleToken(logits, sampling, completionTokens);
      if (completionTokens === 0) promptEnd();
      completionTokens++;

      const isEnd = endTokenIds.has(tokenId);
      const result = matcher.push(isEnd ? "" : decoder.push(tokenId));
      const isLast = isEnd || result.matched !== null || completionTokens === maxTokens;
      let fresh = result.text;
      if (isLast && result.matched === null) {
        const rest = matcher.push(decoder.flush());
        fresh += rest.text + matcher.flush();
      }
      let thought = "";
      if (splitter) {
        const parts = splitter.push(fresh);
        const rest = isLast ? splitter.flush() : { reasoning: "", content: "" };
        thought = parts.reasoning + rest.reasoning;
        fresh = parts.content + rest.content;
      }
      text += fresh;
      reasoning += thought;
      const score = request.logprobs === undefined ? {} : scoreToken(logits, tokenId, request.logprobs);
      queue.push({ type: "token", text: fresh, ...(thought === "" ? {} : { reasoning: thought }), tokenId, ...score });
      if (result.matched !== null) return end("stop", result.matched);
      if (isEnd) return end("stop", tokenId);
      return isLast ? end("length", null) : tokenId;
    },
    fail: queue.fail,
  };
  return { job, next: queue.next };
}

interface Queue {
  push(event: GenerateEvent): void;
  readonly fail: (error: unknown) => void;
  readonly next: () => Promise<GenerateEvent>;
}

/** Events between the loop, which makes them, and one reader, who takes them when it likes. */
function createQueue(): Queue {
  const events: GenerateEvent[] = [];
  let failure: { error: unknown } | null = null;
  let wake = () => {};
  return {
    push(event) {
      events.push(event);
      wake();
    },
    fail(error) {
      failure = { error };
      wake();
    },
    async next() {
      for (;;) {
        const event = events.shift();
        if (event) return event;
        if (failure) throw failure.error;
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    },
  };
}
