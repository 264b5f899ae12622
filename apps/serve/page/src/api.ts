/** The server's model. */
export interface Model {
  readonly id: string;
  readonly contextTokens: number;
  /** Whether the checkpoint has a chat template. */
  readonly chats: boolean;
  /** What the server asks for; null where it asks for none. */
  readonly key: string | null;
}

/** The server asks for a key, or for another one. */
export class KeyRefused extends Error {}

/** The conversation or text does not fit into the context. */
export class ContextExceeded extends Error {}

export interface Message {
  readonly role: "system" | "user" | "assistant";
  readonly content: string;
  /** The thought before the content, where there is one. */
  readonly reasoning_content?: string;
}

export interface Settings {
  readonly temperature: number;
  readonly topP: number;
  readonly maxTokens: number;
}

/** What to continue: a conversation, or a text. */
export type Prompt = { readonly messages: readonly Message[] } | { readonly prompt: string };

/** A piece of an answer: text that came free, of its thought too, and how many tokens it took. */
export interface Piece {
  readonly text: string;
  readonly reasoning: string;
  readonly tokens: number;
  readonly finishReason: string | null;
}

/** Asks the server which model it has. Throws KeyRefused. */
export async function fetchModel(key: string | null): Promise<Model> {
  const [models, info] = await Promise.all([getJson("v1/models", key), getJson("tokenizer_info", key)]);
  const [model] = (models as { data: { id: string; max_model_len: number }[] }).data;
  if (!model) throw new Error("the server has no model");
  const chats = (info as { chat_template: string | null }).chat_template !== null;
  return { id: model.id, contextTokens: model.max_model_len, chats, key };
}

/**
 * Streams the continuation of a prompt; throws where it is refused or breaks off. Aborting the signal closes the connection, which stops the
 * server.
 */
export async function* generate(
  model: Model,
  prompt: Prompt,
  settings: Settings,
  signal: AbortSignal,
): AsyncGenerator<Piece, void, undefined> {
  const response = await fetch("messages" in prompt ? "v1/chat/completions" : "v1/completions", {
    method: "POST",
    headers: { "content-type": "application/json", ...keyHeader(model.key) },
    body: JSON.stringify({
      model: model.id,
      ...prompt,
      temperature: settings.temperature,
      top_p: settings.topP,
      max_tokens: settings.maxTokens,
      stream: true,
      return_token_ids: true,
    }),
    signal,
  });
  if (!response.ok || !response.body) throw await refusalOf(response);
  let buffered = "";
  let finished = false;
  for await (const text of readText(response.body)) {
    const frames = (buffered + text).split("\n\n");
    buffered = frames.pop() ?? "";
    for (const frame of frames) {
      if (frame === "data: [DONE]") return;
      if (!frame.startsWith("data: ")) continue;
      const data = JSON.parse(frame.slice(6)) as { error?: unknown; choices?: Choice[] };
      if (data.error) throw new Error(messageOf(data));
      const choice = data.choices?.[0];
      if (!choice) continue;
      if (choice.finish_reason) finished = true;
      yield {
        text: choice.text ?? choice.delta?.content ?? "",
        reasoning: choice.delta?.reasoning_content ?? "",
        tokens: choice.token_ids?.length ?? 0,
        finishReason: choice.finish_reason,
      };
    }
  }
  if (!finished) throw new Error("the answer was cut off");
}

interface Choice {
  readonly text?: string;
  readonly delta?: { readonly content?: string; readonly reasoning_content?: string };
  readonly token_ids?: readonly number[];
  readonly finish_reason: string | null;
}

async function* readText(body: ReadableStream<Uint8Array>): AsyncGenerator<string, void, undefined> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    yield decoder.decode(value, { stream: true });
  }
}

async function getJson(path: string, key: string | null): Promise<unknown> {
  const response = await fetch(path, { headers: keyHeader(key) });
  if (!response.ok) throw await refusalOf(response);
  return await response.json();
}

const keyHeader = (key: string | null): Record<string, string> => (key === null ? {} : { authorization: `Bearer ${key}` });

/** Why a request was refused: in the server's words, or by the status where something else answered for it. */
async function refusalOf(response: Response): Promise<Error> {
  const body: unknown = await response.json().catch(() => null);
  const message = body ? messageOf(body) : `the server answered ${response.status} ${response.statusText}`.trimEnd();
  if (response.status === 401) return new KeyRefused(message);
  return codeOf(body) === "context_length_exceeded" ? new ContextExceeded(message) : new Error(message);
}

const codeOf = (body: unknown) => (body as { error?: { code?: string } } | null)?.error?.code;

function messageOf(body: unknown): string {
  return (body as { error?: { message?: string } }).error?.message ?? "the server gave no reason";
}
