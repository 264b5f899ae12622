import { expect, test } from "vitest";
import { createChatTemplate } from "./chat_template.js";
import { readTokenizerConfig } from "./files.js";

const messages = [{ role: "user", content: "hi" }];
const config = (chat_template: unknown) =>
  readTokenizerConfig({ "tokenizer_config.json": JSON.stringify({ bos_token: { content: "<bos>" }, eos_token: "<eos>", chat_template }) });

test("renders the checkpoint's template with its tokens and options", () => {
  const source =
    "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m['content'] }}{{ eos_token }}{% endfor %}" +
    "{% if tools is not none %}tools:{{ tools | tojson }}{% endif %}{% if add_generation_prompt %}[assistant]{% endif %}" +
    "{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}{{ extra }}";
  const template = createChatTemplate(config(source), undefined);
  expect(template?.render(messages)).toBe("<bos>[user]hi<eos>");
  expect(template?.render(messages, { addGenerationPrompt: true })).toBe("<bos>[user]hi<eos>[assistant]");
  expect(template?.render(messages, { enableThinking: false })).toBe("<bos>[user]hi<eos><think></think>");
  expect(template?.render(messages, { tools: [{ type: "function" }], variables: { extra: "!" } })).toBe(
    '<bos>[user]hi<eos>tools:[{"type": "function"}]!',
  );
});

test("prefers chat_template.jinja to the configuration", () => {
  expect(createChatTemplate(config("old"), "new")?.render(messages)).toBe("new");
});

test("picks tool_use among named templates when tools are given", () => {
  const named = [
    { name: "default", template: "plain" },
    { name: "tool_use", template: "with tools" },
  ];
  const template = createChatTemplate(config(named), undefined);
  expect([template?.render(messages), template?.render(messages, { tools: [] }), template?.render(messages, { tools: [{}] })]).toEqual([
    "plain",
    "plain",
    "with tools",
  ]);
});

test("is null where there is none", () => {
  expect(createChatTemplate(config(null), undefined)).toBeNull();
});

test("says in one line what the template refused", () => {
  const template = createChatTemplate(config("{{ raise_exception('roles must alternate') }}"), undefined);
  expect(() => template?.render(messages)).toThrow(
    expect.objectContaining({ code: "CHAT_TEMPLATE_FAILED", message: expect.stringContaining("roles must alternate") }),
  );
});

test("refuses a template that is not Jinja", () => {
  expect(() => createChatTemplate(config("{% if %}"), undefined)).toThrow(expect.objectContaining({ code: "TOKENIZER_INVALID" }));
});
