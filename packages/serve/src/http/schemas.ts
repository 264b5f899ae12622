import { z } from "zod";
import { HttpError } from "./errors.js";

const tokenId = z.int().min(0);

/**
 * A list that is read no further than its first bad element, or `most` elements and one: zod makes an issue of every bad one, which takes minutes
 * for the millions that fit into a body.
 */
function listOf<T extends z.ZodType>(element: T, { min, max, most = max ?? Infinity }: { min?: number; max?: number; most?: number } = {}) {
  let list = z.array(element);
  if (min !== undefined) list = list.min(min);
  if (max !== undefined) list = list.max(max);
  return z.preprocess((value) => {
    if (!Array.isArray(value)) return value;
    const read = value.length > most ? value.slice(0, most + 1) : value;
    const bad = read.findIndex((item) => !isGood(element, item));
    return bad === -1 ? read : read.slice(0, bad + 1);
  }, list);
}

function isGood(element: z.ZodType, item: unknown): boolean {
  return element === tokenId ? Number.isSafeInteger(item) && (item as number) >= 0 : element.safeParse(item).success;
}

/** What both generating routes take. `null` is the same as leaving a parameter out (see `acceptBody`). */
const sampling = {
  model: z.string().optional(),
  temperature: z.number().min(0).max(100).optional(),
  top_p: z.number().min(0).max(1).optional(),
  /** 0 and −1 keep all tokens. */
  top_k: z.int().min(-1).optional(),
  min_p: z.number().min(0).max(1).optional(),
  /** 64 bits; of those that JavaScript cannot tell apart the highest count. −1 asks for a new one. */
  seed: z
    .number()
    .min(-(2 ** 63))
    .max(2 ** 64)
    .refine(Number.isInteger, "expected a whole number")
    .optional(),
  n: z.int().min(1).max(128).default(1),
  stop: z
    .union([z.string().min(1), listOf(z.string().min(1), { max: 64 })], "expected a text that is not empty, or a list of at most 64")
    .optional(),
  stop_token_ids: listOf(tokenId, { max: 1024 }).optional(),
  ignore_eos: z.boolean().optional(),
  skip_special_tokens: z.boolean().optional(),
  return_token_ids: z.boolean().default(false),
  stream: z.boolean().default(false),
  stream_options: z
    .strictObject({ include_usage: z.boolean().default(false), include_obfuscation: z.literal(false).optional() })
    .optional(),
  user: z.string().optional(),
  safety_identifier: z.string().optional(),
  prompt_cache_key: z.string().optional(),
};

/** Most answers of one request. */
const maxChoices = 512;

const Prompt = z
  .union(
    [
      z.string(),
      listOf(z.string(), { min: 1, most: maxChoices }),
      listOf(tokenId, { min: 1 }),
      listOf(listOf(tokenId, { min: 1 }), { min: 1, most: maxChoices }),
    ],
    "expected a text, token ids, or a list of texts or of lists of token ids",
  )
  .nonoptional(); // in a union of preprocessed types zod describes it as optional

/** The prompts of a request, each a text or its token ids. */
export function promptsOf(prompt: z.output<typeof Prompt>): readonly (string | readonly number[])[] {
  const isList = Array.isArray(prompt) && typeof prompt[0] !== "number";
  return (isList ? prompt : [prompt]) as readonly (string | readonly number[])[];
}

/** Body of POST /v1/completions. */
export const CompletionBody = z
  .strictObject({
    ...sampling,
    prompt: Prompt,
    max_tokens: z.int().min(0).default(16),
    echo: z.boolean().default(false),
    /** How many of the most probable tokens to list beside each token. */
    logprobs: z.int().min(0).max(20).optional(),
    /** Whether a text prompt gets the tokenizer's bos. */
    add_special_tokens: z.boolean().default(true),
  })
  .refine(({ prompt, n }) => promptsOf(prompt).length * n <= maxChoices, {
    path: ["prompt"],
    message: `prompts × n may be ${maxChoices} at most; send several requests`,
  });
export type CompletionBody = z.output<typeof CompletionBody>;

const textPart = z.looseObject({ type: z.literal("text"), text: z.string() });

const refusalPart = z.looseObject({ type: z.literal("refusal"), refusal: z.string() });

const roles = ["system", "developer", "user", "tool"] as const;

/** An assistant's turn may lack a content, as where it called a tool, and holds a refusal as OpenAI's client hands it back. */
const message = z.discriminatedUnion(
  "role",
  [
    z.looseObject({
      role: z.enum(roles),
      content: z.union([z.string(), listOf(textPart)], 'expected text, or parts of type "text"; this server takes no others').nonoptional(),
    }),
    z.looseObject({
      role: z.literal("assistant"),
      content: z
        .union(
          [z.string(), listOf(z.discriminatedUnion("type", [textPart, refusalPart]))],
          'expected text, or parts of type "text" or "refusal"; this server takes no others',
        )
        .nullish(),
    }),
  ],
  { error: ({ code }) => (code === "invalid_union" ? `expected one of ${[...roles, "assistant"].join(", ")}` : undefined) },
);

type Content = ChatBody["messages"][number]["content"];

/** The content of a message with its parts as lines of one text, as chat templates expect. */
export function textOf(content: Content): string {
  if (!Array.isArray(content)) return content ?? "";
  return content.map((part) => (part.type === "text" ? part.text : part.refusal)).join("\n");
}

/** Variables of a chat template that are made from the rest of the request. */
const setByServer = ["messages", "tools", "add_generation_prompt"];

/** Most messages of a conversation: to check them takes time, in which nobody else is answered. Those that the context has no room for are refused too. */
const maxMessages = 2 ** 15;

/** Body of POST /v1/chat/completions. */
export const ChatBody = z
  .strictObject({
    ...sampling,
    messages: listOf(message, { min: 1, max: maxMessages }),
    max_tokens: z.int().min(1).optional(),
    max_completion_tokens: z.int().min(1).optional(),
    logprobs: z.boolean().default(false),
    top_logprobs: z.int().min(0).max(20).optional(),
    /** Whether the thought is sent too; without it the answer has none, and costs the same. */
    include_reasoning: z.boolean().default(true),
    /** Variables of the chat template, such as `enable_thinking`. */
    chat_template_kwargs: z
      .record(z.string(), z.unknown())
      .refine((variables) => !setByServer.some((name) => Object.hasOwn(variables, name)), `${setByServer.join(", ")} are not to be set`)
      .optional(),
  })
  .refine((body) => body.logprobs || body.top_logprobs === undefined, { path: ["top_logprobs"], message: "needs logprobs: true" });
export type ChatBody = z.output<typeof ChatBody>;

/** Longest text and most tokens of one request to the tokenizer. Everything else waits for it: 0.7 s at most, measured with a vocabulary of 262 145 on busy cores. */
const maxText = 2 ** 17;
const maxTokens = 2 ** 20;

/** Body of POST /tokenize; `content` and `add_special` are another server's names for the same. */
export const TokenizeBody = z
  .strictObject({
    model: z.string().optional(),
    prompt: z.string().max(maxText).optional(),
    content: z.string().max(maxText).optional(),
    add_special_tokens: z.boolean().optional(),
    add_special: z.boolean().optional(),
  })
  .refine((body) => body.prompt !== undefined || body.content !== undefined, { path: ["prompt"], message: "required" });

/** Body of POST /detokenize. */
export const DetokenizeBody = z.strictObject({ model: z.string().optional(), tokens: listOf(tokenId, { max: maxTokens }) });

const isEmpty = (value: unknown) => Object.keys(Object(value)).length === 0;

/** Parameters of the API that this server does not have, with the values that ask for nothing. */
const unsupported: Readonly<Record<string, (value: unknown, body: Readonly<Record<string, unknown>>) => boolean>> = {
  audio: () => false,
  best_of: (value, body) => value === (body.n ?? 1),
  frequency_penalty: (value) => value === 0,
  function_call: (value) => value === "none" || value === "auto",
  functions: (value, body) => isEmpty(value) || body.function_call === "none",
  logit_bias: isEmpty,
  metadata: () => true,
  modalities: (value) => Array.isArray(value) && value.length === 1 && value[0] === "text",
  parallel_tool_calls: (value) => typeof value === "boolean",
  prediction: () => false,
  presence_penalty: (value) => value === 0,
  reasoning_effort: (value) => value === "none",
  repetition_penalty: (value) => value === 1,
  response_format: (value) => (value as { type?: unknown }).type === "text",
  service_tier: (value) => value === "auto" || value === "default",
  store: (value) => value === false,
  suffix: (value) => value === "",
  tool_choice: (value) => value === "none" || value === "auto",
  tools: (value, body) => isEmpty(value) || body.tool_choice === "none",
  verbosity: (value) => value === "medium",
  web_search_options: () => false,
};

/**
 * The body without nulls and without parameters that ask for nothing. Throws `unsupported_parameter` for one that asks for something this server
 * does not do, so that no client believes it was heeded.
 */
export function acceptBody(body: unknown): unknown {
  if (!isRecord(body)) return body;
  const given = withoutNulls(body);
  if (isRecord(given.stream_options)) given.stream_options = withoutNulls(given.stream_options);
  const whole = { ...given };
  for (const [name, value] of Object.entries(whole)) {
    const asksForNothing = Object.hasOwn(unsupported, name) ? unsupported[name] : undefined;
    if (!asksForNothing) continue;
    if (!asksForNothing(value, whole)) {
      const shown = typeof value === "object" ? name : `${name}: ${JSON.stringify(value).slice(0, 100)}`;
      throw new HttpError(400, "unsupported_parameter", `${shown} is not supported by this server`, name);
    }
    delete given[name];
  }
  return given;
}

const isRecord = (value: unknown): value is object => typeof value === "object" && value !== null && !Array.isArray(value);

function withoutNulls(record: object): Record<string, unknown> {
  return Object.fromEntries(Object.entries(record).filter(([, value]) => value !== null));
}
