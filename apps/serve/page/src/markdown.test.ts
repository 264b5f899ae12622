// @vitest-environment jsdom
import { expect, test } from "vitest";
import { renderMarkdown } from "./markdown.js";

function render(text: string): HTMLElement {
  const element = document.createElement("div");
  element.innerHTML = renderMarkdown(text);
  return element;
}

test("markdown becomes HTML", () => {
  expect(renderMarkdown("**bold** and `code`\nnext line")).toBe("<p><strong>bold</strong> and <code>code</code><br>next line</p>\n");
});

test.each([
  "Use Array<string> and Map<K, V> here",
  "<script>let a = 1;</script> tail",
  "x <textarea> swallowed",
  "<div>a</div>",
  "a <!-- comment --> b",
  "a < b && c > d",
  "<!DOCTYPE html>",
  "<p onclick='a()'>p</p>",
])("tags are text: %s", (text) => {
  const element = render(text);
  expect(element.textContent).toBe(`${text}\n`);
  expect([...element.querySelectorAll("*")].map(({ tagName }) => tagName)).toEqual(["P"]);
});

test("markdown among tags is still markdown", () => {
  const element = render("<div>\n**bold**\n</div>\n\n- <b>one</b>\n- `<i>`\n\n```html\n<pre>\n```\n\nlast");
  expect(element.querySelector("strong")?.textContent).toBe("bold");
  expect([...element.querySelectorAll("li")].map(({ textContent }) => textContent)).toEqual(["<b>one</b>", "<i>"]);
  expect(element.querySelector("pre code")?.textContent).toBe("<pre>\n");
  expect(element.textContent).toMatch(/^<div>bold\s+<\/div>\n/);
  expect(element.lastElementChild?.textContent).toBe("last");
});

test("images and boxes become text", () => {
  expect(render("![a <b>](http://example.com/pixel.png)").textContent).toBe("a <b>\n");
  expect(render("- [x] done\n- [ ] to do").textContent?.trim()).toBe("☑ done\n☐ to do");
});

test.each(["[link](http://example.com)", "<http://example.com>", "http://example.com"])(
  "a link leaves the page where it is: %s",
  (text) => {
    const link = render(text).querySelector("a");
    expect(link?.getAttribute("href")).toBe("http://example.com");
    expect(link?.getAttribute("target")).toBe("_blank");
    expect(link?.getAttribute("rel")).toBe("noreferrer");
  },
);

test.each([
  ["a script", "<script>alert(1)</script>"],
  ["a handler", '<b onclick="alert(1)">b</b>'],
  ["a script's address", "[link](javascript:alert(1))"],
  ["an image", "![alt](http://example.com/pixel.png)"],
  ["an image in HTML", '<img src="http://example.com/pixel.png" onerror="alert(1)">'],
  ["a form", '<form action="http://example.com"><input name="a"></form>'],
  ["a style", '<p style="background: url(http://example.com)">p</p>'],
  ["a frame", '<iframe src="http://example.com"></iframe>'],
])("%s does not reach the page", (_, text) => {
  expect(
    render(text).querySelector("script, img, form, input, iframe, [onclick], [onerror], [style], [src], [href^=javascript]"),
  ).toBeNull();
});
