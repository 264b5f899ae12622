import DOMPurify from "dompurify";
import { marked } from "marked";

/** Markdown as safe HTML. Nothing in it loads anything: images become their text. */
export function renderMarkdown(text: string): string {
  const html = marked.parse(text, { async: false, gfm: true, breaks: true }) as string;
  return DOMPurify.sanitize(html, {
    USE_PROFILES: { html: true },
    FORBID_TAGS: ["img", "style", "form", "input", "button", "video", "audio", "source"],
    FORBID_ATTR: ["style"],
  });
}
