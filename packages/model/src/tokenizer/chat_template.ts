import { Template } from "@huggingface/jinja";
import { fail } from "../errors.js";
import type { TokenizerConfig } from "./files.js";

/** A turn of a conversation, passed to the template as it is (`content` may be text or a list of parts). */
export interface ChatMessage {
  readonly role: string;
  readonly [field: string]: unknown;
}

export interface ChatTemplateOptions {
  /** Tool definitions in OpenAI's shape. */
  readonly tools?: readonly unknown[] | undefined;
  /** End with the opening of the assistant's turn. Default false. */
  readonly addGenerationPrompt?: boolean | undefined;
  /** `enable_thinking` of the template; left to the template when not given. */
  readonly enableThinking?: boolean | undefined;
  /** Further variables for the template, by the names it uses. */
  readonly variables?: Readonly<Record<string, unknown>> | undefined;
}

/** The checkpoint's template, compiled. */
interface ChatTemplate {
  /** Its Jinja source; of several, the default one. */
  readonly source: string;
  /** Renders a conversation to text. Throws CHAT_TEMPLATE_FAILED with the template's words. */
  render(messages: readonly ChatMessage[], options?: ChatTemplateOptions): string;
}

/**
 * Compiles the checkpoint's own template: chat_template.jinja, else `chat_template` of tokenizer_config.json (of several, `tool_use`
 * when tools are given, else `default`). Null when the checkpoint has none. Throws TOKENIZER_INVALID when it is not Jinja.
 */
export function createChatTemplate(config: TokenizerConfig, jinja: string | undefined): ChatTemplate | null {
  const given = jinja ?? config.chat_template;
  if (given === null || given === undefined) return null;
  const named = typeof given === "string" ? [{ name: "default", template: given }] : given;
  const sourceOf = (name: string) => named.find((each) => each.name === name)?.template;
  const source = sourceOf("default") ?? named[0]?.template;
  if (source === undefined) return null;
  const plain = compile(source);
  const withTools = compile(sourceOf("tool_use") ?? source);

  return {
    source,
    render(messages, { tools, addGenerationPrompt = false, enableThinking, variables = {} } = {}) {
      const variablesOfAll = {
        bos_token: config.bos_token ?? "",
        eos_token: config.eos_token ?? "",
        pad_token: config.pad_token ?? "",
        unk_token: config.unk_token ?? "",
        documents: null,
        ...variables,
        messages,
        tools: tools ?? null,
        add_generation_prompt: addGenerationPrompt,
        ...(enableThinking === undefined ? {} : { enable_thinking: enableThinking }),
      };
      try {
        return (tools !== undefined && tools.length > 0 ? withTools : plain).render(variablesOfAll);
      } catch (cause) {
        return fail("CHAT_TEMPLATE_FAILED", `the chat template refused the messages: ${(cause as Error).message}`, cause);
      }
    },
  };
}

function compile(source: string): Template {
  try {
    return new Template(source);
  } catch (cause) {
    return fail("TOKENIZER_INVALID", `the chat template is not valid Jinja: ${(cause as Error).message}`, cause);
  }
}
