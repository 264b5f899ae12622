import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { acceptBody, ChatBody, CompletionBody, DetokenizeBody } from "./schemas.js";

const many = 20_000;
const texts = 'expected text, or parts of type "text"; this server takes no others';

test.each([
  { what: "ids", schema: CompletionBody, body: { prompt: new Array(many).fill(-1) }, path: "prompt.0" },
  { what: "empty lists", schema: CompletionBody, body: { prompt: new Array(many).fill([]) }, path: "prompt.0" },
  { what: "tokens", schema: DetokenizeBody, body: { tokens: [1, ...new Array(many).fill(-1)] }, path: "tokens.1" },
  { what: "messages", schema: ChatBody, body: { messages: new Array(many).fill(0) }, path: "messages.0" },
  {
    what: "messages' parts",
    schema: ChatBody,
    body: { messages: new Array(many).fill({ role: "user", content: [0] }) },
    path: "messages.0.content",
    message: texts,
  },
])("makes one issue of many bad $what", ({ schema, body, path, message }) => {
  const { error } = schema.safeParse(body);
  expect(error?.issues.map((issue) => issue.path.join("."))).toEqual([path]);
  if (message) expect(error?.issues[0]?.message).toBe(message);
});

test("makes no issue for each id of a prompt, nor for each of too many prompts", () => {
  const ids = new Array(many).fill(1);
  expect(CompletionBody.parse({ prompt: ids }).prompt).toEqual(ids);
  expect(CompletionBody.parse({ prompt: [[1], [2]] }).prompt).toEqual([[1], [2]]);
  for (const prompt of ["", [1]]) {
    const { error } = CompletionBody.safeParse({ prompt: new Array(many).fill(prompt) });
    expect(error?.issues).toMatchObject([{ path: ["prompt"], message: expect.stringContaining("512 at most") }]);
  }
});

test("refuses the parameters that README.md lists, and takes those that ask for nothing", () => {
  const readme = readFileSync(new URL("../../README.md", import.meta.url), "utf8");
  const table = readme.slice(readme.indexOf("| refused "), readme.indexOf("\n\n`metadata`"));
  const listed = table.split("\n").flatMap((row) => [...(row.split("|")[1] ?? "").matchAll(/`(\w+)`/g)].map(([, name = ""]) => name));
  expect(listed.length).toBeGreaterThan(15);
  const refused = { code: "unsupported_parameter" };
  for (const name of listed) expect(() => acceptBody({ [name]: { a: 1 } })).toThrow(expect.objectContaining({ ...refused, param: name }));
  const taken = {
    metadata: { a: "b" },
    parallel_tool_calls: true,
    tools: [{}],
    tool_choice: "none",
    functions: [{}],
    function_call: "none",
  };
  expect(acceptBody(taken)).toEqual({});
  expect(() => acceptBody({ tools: [{}], tool_choice: "auto" })).toThrow(expect.objectContaining({ ...refused, param: "tools" }));
});
