import { ZayaError } from "@zaya/kernels";
import type { ChatMessage } from "@zaya/model";
import { z } from "zod";
import type { ScoredToken, TokenLogprob } from "./logprobs.js";

const tokenId = z.int().min(0);
const safeInteger = z.int().min(Number.MIN_SAFE_INTEGER).max(Number.MAX_SAFE_INTEGER);

/** What `generate` is asked: a prompt as text or token ids, or a conversation, and how to continue it. */
export const GenerateRequest = z
  .strictObject({
    /** Text, or token ids, which are taken as they are. */
    prompt: z.union([z.string(), z.array(tokenId).readonly()], "expected a text or token ids").optional(),
    /** Whether a text gets the tokenizer's bos. */
    addSpecialTokens: z.boolean().default(true),
    /** Turns of a conversation, rendered by the checkpoint's chat template. */
    messages: z
      .array(z.custom<ChatMessage>((value) => typeof (value as ChatMessage | null)?.role === "string", "expected a message with a role"))
      .min(1)
      .readonly()
      .optional(),
    /** Further variables of the chat template, such as `enable_thinking`. */
    templateVariables: z.record(z.string(), z.unknown()).optional(),
    /** Most tokens to generate; 0 only reads the prompt. Default: what the context leaves. */
    maxTokens: z.int().min(0).optional(),
    /** Divides the logits; 0 takes the most probable token, as does what is too small to divide by in float32. */
    temperature: z
      .number()
      .min(0)
      .max(100)
      .transform((temperature) => (Number.isFinite(Math.fround(1 / temperature)) ? temperature : 0))
      .default(1),
    /** Keeps the k most probable tokens; 0 keeps all. */
    topK: z.int().min(0).default(0),
    /** Keeps the smallest set of tokens with this much probability. */
    topP: z.number().min(0).max(1).default(1),
    /** Drops tokens with less than this share of the most probable one's probability. */
    minP: z.number().min(0).max(1).default(0),
    /** The same seed gives the same tokens, whatever else the engine runs. Default: a new one. */
    seed: safeInteger.optional(),
    /** Tells several choices with one seed apart. */
    choice: z.int().min(0).default(0),
    /** Texts that end the generation; they are not part of the result. */
    stop: z
      .union([z.string().min(1), z.array(z.string().min(1)).readonly()], "expected a text that is not empty, or a list of them")
      .transform((stop) => (typeof stop === "string" ? [stop] : stop))
      .default([]),
    /** Tokens that end the generation, beside the model's own end tokens. */
    stopTokenIds: z.array(tokenId).readonly().default([]),
    /** Goes on after the model's end tokens. */
    ignoreEos: z.boolean().default(false),
    /** Leaves special tokens out of the text. */
    skipSpecialTokens: z.boolean().default(true),
    /** Gives what stands between `<think>` and `</think>` as `reasoning` instead of `text`. */
    separateReasoning: z.boolean().default(false),
    /** Gives each token's log-probability, and those of this many most probable tokens. */
    logprobs: z.int().min(0).max(100).optional(),
    /** The same for the prompt's tokens, in the event `prompt-end`. */
    promptLogprobs: z.int().min(0).max(100).optional(),
  })
  .refine(({ prompt, messages }) => (prompt === undefined) !== (messages === undefined), {
    path: ["prompt"],
    message: "give either a prompt or messages",
  });
export type GenerateRequest = z.input<typeof GenerateRequest>;

/** A request with its defaults. */
export type ParsedRequest = z.output<typeof GenerateRequest>;

/** Tokens that were read and made. */
export interface Usage {
  readonly promptTokens: number;
  readonly completionTokens: number;
  /** Those of the thought with its tags, where there is one and `separateReasoning` asked for it. */
  readonly reasoningTokens?: number;
}

/** What a generation tells, in this order: one `prompt-end`, any number of `token`, one `generate-end`. */
export type GenerateEvent =
  /** The prompt was read. Its first token has no log-probability. */
  | { readonly type: "prompt-end"; readonly tokenIds: readonly number[]; readonly logprobs?: readonly (ScoredToken | null)[] }
  /** One generated token, an end token included. `text` is what became certain with it: texts joined are the whole text. */
  | {
      readonly type: "token";
      readonly text: string;
      readonly reasoning?: string;
      readonly tokenId: number;
      readonly logprob?: number;
      readonly topLogprobs?: readonly TokenLogprob[];
    }
  /** The end: `stop` with the stop string or end token that was met, or `length`. */
  | {
      readonly type: "generate-end";
      readonly finishReason: "stop" | "length";
      readonly stopReason: string | number | null;
      readonly text: string;
      /** The thought before the text, "" for an empty one. */
      readonly reasoning?: string;
      readonly usage: Usage;
    };

/** Checks a request and fills in defaults. Throws INVALID_REQUEST naming the field. */
export function parseRequest(request: GenerateRequest): ParsedRequest {
  const result = GenerateRequest.safeParse(request);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  throw new ZayaError("INVALID_REQUEST", `${issue?.path.join(".") || "request"}: ${issue?.message}`, { cause: result.error });
}
