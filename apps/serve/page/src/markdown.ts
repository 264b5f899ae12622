import DOMPurify from "dompurify";
import { Marked } from "marked";

const markdown = new Marked({
  async: false,
  gfm: true,
  breaks: true,
  // A tag is no token, so it stays text: `Array<string>` is code more often than HTML.
  tokenizer: { html: () => undefined, tag: () => undefined },
  renderer: { image: (_href, _title, text) => text, checkbox: (checked) => (checked ? "☑" : "☐") },
});

// A link that opened here would take the place of the conversation.
DOMPurify.addHook("afterSanitizeAttributes", (node) => {
  if (!node.hasAttribute("href")) return;
  node.setAttribute("target", "_blank");
  node.setAttribute("rel", "noreferrer");
});

/** Markdown as safe HTML. HTML in it is shown as text. Nothing in it loads anything: images become their text. */
export function renderMarkdown(text: string): string {
  return DOMPurify.sanitize(markdown.parse(text) as string, {
    USE_PROFILES: { html: true },
    FORBID_TAGS: ["img", "style", "form", "input", "button", "video", "audio", "source"],
    FORBID_ATTR: ["style"],
  });
}
