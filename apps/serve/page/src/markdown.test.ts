// @vitest-environment jsdom
import { expect, test } from "vitest";
import { renderMarkdown } from "./markdown.js";

test("markdown becomes HTML", () => {
  expect(renderMarkdown("**bold** and `code`\nnext line")).toBe("<p><strong>bold</strong> and <code>code</code><br>next line</p>\n");
});

test.each([
  ["a script", "<script>alert(1)</script>"],
  ["a handler", '<b onclick="alert(1)">b</b>'],
  ["a script's address", "[link](javascript:alert(1))"],
  ["an image", "![alt](http://example.com/pixel.png)"],
  ["a form", '<form action="http://example.com"><input name="a"></form>'],
  ["a style", '<p style="background: url(http://example.com)">p</p>'],
  ["a frame", '<iframe src="http://example.com"></iframe>'],
])("%s does not reach the page", (_, text) => {
  expect(renderMarkdown(text)).not.toMatch(/script|onclick|javascript:|<img|<form|<input|style=|<iframe/);
});
