import { ZayaError } from "@zaya/kernels";
import type { ChatMessage } from "@zaya/model";
import { z } from "zod";
import type { ScoredToken, TokenLogprob } from "./logprobs.js";

const tokenId = z.int().min(0);
const safeInteger = z.int().min(Number.MIN_SAFE_INTEGER).max(Number.MAX_SAFE_INTEGER);

/** What `generate` is asked: a prompt as text or token ids, or a conversation, and how to continue it. */
export interface GenerateRequest {
  /** Text, or token ids, which are taken as they are. */
  readonly prompt?: string | readonly number[] | undefined;
  /** Whether a text gets the tokenizer's bos. Default true. */
  readonly addSpecialTokens?: boolean | undefined;
  /** Turns of a conversation, rendered by the checkpoint's chat template. */
  readonly messages?: readonly ChatMessage[] | undefined;
  /** Further variables of the chat template, such as `enable_thinking`. */
  readonly templateVariables?: Readonly<Record<string, unknown>> | undefined;
  /** Most tokens to generate; 0 only reads the prompt. Default: what the context leaves. */
  readonly maxTokens?: number | undefined;
  /** Divides the logits, at most 100; 0 takes the most probable token, as does what is too small to divide by in float32. Default 1. */
  readonly temperature?: number | undefined;
  /** Keeps the k most probable tokens; 0, the default, keeps all. */
  readonly topK?: number | undefined;
  /** Keeps the smallest set of tokens with this much probability. Default 1. */
  readonly topP?: number | undefined;
  /** Drops tokens with less than this share of the most probable one's probability. Default 0. */
  readonly minP?: number | undefined;
  /** The same seed gives the same tokens, whatever else the engine runs. Default: a new one. */
  readonly seed?: number | undefined;
  /** Tells several choices with one seed apart. Default 0. */
  readonly choice?: number | undefined;
  /** Texts that end the generation; they are not part of the result. */
  readonly stop?: string | readonly string[] | undefined;
  /** Tokens that end the generation, beside the model's own end tokens. */
  readonly stopTokenIds?: readonly number[] | undefined;
  /** Goes on after the model's end tokens. Default false. */
  readonly ignoreEos?: boolean | undefined;
  /** Leaves special tokens out of the text. Default true. */
  readonly skipSpecialTokens?: boolean | undefined;
  /** Gives what stands between `<think>` and `</think>` as `reasoning` instead of `text`. Default false. */
  readonly separateReasoning?: boolean | undefined;
  /** Gives each token's log-probability, and those of this many most probable tokens, at most 100. Default: none. */
  readonly logprobs?: number | undefined;
  /** The same for the prompt's tokens, in the event `prompt-end`. */
  readonly promptLogprobs?: number | undefined;
}

const requestSchema = z
  .strictObject({
    prompt: z.union([z.string(), z.array(tokenId).readonly()], "expected a text or token ids").optional(),
    addSpecialTokens: z.boolean().default(true),
    messages: z
      .array(z.custom<ChatMessage>((value) => typeof (value as ChatMessage | null)?.role === "string", "expected a message with a role"))
      .min(1)
      .readonly()
      .optional(),
    templateVariables: z.record(z.string(), z.unknown()).optional(),
    maxTokens: z.int().min(0).optional(),
    temperature: z
      .number()
      .min(0)
      .max(100)
      .transform((temperature) => (Number.isFinite(Math.fround(1 / temperature)) ? temperature : 0))
      .default(1),
    topK: z.int().min(0).default(0),
    topP: z.number().min(0).max(1).default(1),
    minP: z.number().min(0).max(1).default(0),
    seed: safeInteger.optional(),
    choice: z.int().min(0).default(0),
    stop: z
      .union([z.string().min(1), z.array(z.string().min(1)).readonly()], "expected a text that is not empty, or a list of them")
      .transform((stop) => (typeof stop === "string" ? [stop] : stop))
      .default([]),
    stopTokenIds: z.array(tokenId).readonly().default([]),
    ignoreEos: z.boolean().default(false),
    skipSpecialTokens: z.boolean().default(true),
    separateReasoning: z.boolean().default(false),
    logprobs: z.int().min(0).max(100).optional(),
    promptLogprobs: z.int().min(0).max(100).optional(),
  } satisfies { [Field in keyof GenerateRequest]-?: z.ZodType<unknown, GenerateRequest[Field]> })
  .refine(({ prompt, messages }) => (prompt === undefined) !== (messages === undefined), {
    path: ["prompt"],
    message: "give either a prompt or messages",
  });

/** A request with its defaults. */
export type ParsedRequest = z.output<typeof requestSchema>;

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
  const result = requestSchema.safeParse(request);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  throw new ZayaError("INVALID_REQUEST", `${issue?.path.join(".") || "request"}: ${issue?.message}`, { cause: result.error });
}
