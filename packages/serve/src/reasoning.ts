import type { Tokenizer } from "@zaya/model";
import { heldLength } from "./stop.js";

const openTag = "<think>";
const closeTag = "</think>";

/** Text that came free: of the thought, then of what follows it. */
interface AnswerParts {
  readonly reasoning: string;
  readonly content: string;
}

/** Tells a model's thought from its answer; text that might still become a tag, or a newline beside one, is held back. */
export interface ReasoningSplitter {
  /** Takes the text of one more token. */
  push(text: string): AnswerParts;
  /** What is still held back, at the end of the stream. */
  flush(): AnswerParts;
  /** Tokens of the thought with its tags; null where there is none, so far. */
  reasoningTokens(): number | null;
}

/**
 * Splits `<think>\nthought\n</think>\n\nanswer`: tags and the newlines around them belong to neither part. Only a tag at the beginning opens a thought,
 * or one that ends the prompt (`inThought`); one that is never closed lasts to the end. A closing tag at the beginning, of a thought that was left out,
 * goes with it. How the text was cut makes no difference.
 */
export function createReasoningSplitter(inThought: boolean): ReasoningSplitter {
  let part: "beginning" | "thought" | "content" = inThought ? "thought" : "beginning";
  let held = "";
  /** Newlines before what is held. They are counted: a model may write nothing else. */
  let newlines = 0;
  /** Whether a tag has just ended, so that newlines are dropped. */
  let afterTag = inThought;
  let thinks = inThought;
  let tokens = 0;

  function free(text: string): string {
    const all = "\n".repeat(newlines) + text;
    newlines = 0;
    return all;
  }
  function trim(text: string): string {
    if (!afterTag) return text;
    const rest = withoutFirstNewlines(text);
    afterTag = rest === "";
    return rest;
  }
  function enter(next: "thought" | "content", text: string): string {
    part = next;
    afterTag = true;
    newlines = 0;
    return trim(text);
  }

  return {
    push(text) {
      let reasoning = "";
      let rest = trim(held + text);
      held = "";
      if (part !== "content") tokens++;
      if (part === "beginning") {
        const tag = withoutFirstNewlines(rest);
        newlines += rest.length - tag.length;
        if (tag.startsWith(openTag)) {
          thinks = true;
          rest = enter("thought", tag.slice(openTag.length));
        } else if (tag.startsWith(closeTag)) {
          return { reasoning, content: enter("content", tag.slice(closeTag.length)) };
        } else if (openTag.startsWith(tag) || closeTag.startsWith(tag)) {
          held = tag;
          return { reasoning, content: "" };
        } else {
          part = "content";
          return { reasoning, content: free(tag) };
        }
      }
      if (part === "thought") {
        const close = rest.indexOf(closeTag);
        const end = close < 0 ? rest.length - heldLength(rest, [closeTag]) : close;
        const body = withoutLastNewlines(rest.slice(0, end));
        if (body !== "") reasoning = free(body);
        newlines += end - body.length;
        if (close < 0) {
          held = rest.slice(end);
          return { reasoning, content: "" };
        }
        rest = enter("content", rest.slice(close + closeTag.length));
      }
      return { reasoning, content: rest };
    },
    flush() {
      const rest = free(held);
      held = "";
      return part === "thought" ? { reasoning: rest, content: "" } : { reasoning: "", content: rest };
    },
    reasoningTokens: () => (thinks ? tokens : null),
  };
}

/** The tokens that are tags, in tokenizers that have some. */
export function thoughtTokenIds(tokenizer: Tokenizer): ReadonlySet<number> {
  return new Set([openTag, closeTag].flatMap((tag) => tokenizer.tokenToId(tag) ?? []));
}

/** Whether a prompt leaves a thought open, as some chat templates do: the answer then begins inside it. */
export function endsInThought(tokenizer: Tokenizer, promptIds: readonly number[]): boolean {
  return /<think>\s*$/.test(tokenizer.decode(promptIds.slice(-16), { skipSpecialTokens: false }));
}

function withoutFirstNewlines(text: string): string {
  return text.replace(/^\n+/, "");
}

function withoutLastNewlines(text: string): string {
  let end = text.length;
  while (text[end - 1] === "\n") end--;
  return text.slice(0, end);
}
