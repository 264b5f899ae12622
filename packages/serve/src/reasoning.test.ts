import { loadTokenizer, trainTokenizer } from "@zaya/model";
import fc from "fast-check";
import { expect, test } from "vitest";
import { decodeAnswer } from "./answer_decoder.js";
import { createReasoningSplitter, endsInThought } from "./reasoning.js";
import { createToyEngine } from "./testing.js";

function run(pieces: readonly string[], inThought = false) {
  const splitter = createReasoningSplitter(inThought);
  const parts = [...pieces.map((piece) => splitter.push(piece)), splitter.flush()];
  const join = (part: "reasoning" | "content") => parts.map((each) => each[part]).join("");
  return { reasoning: join("reasoning"), content: join("content"), tokens: splitter.reasoningTokens() };
}

test.each([
  {
    what: "a thought and its answer",
    pieces: ["<think>", "\n", "so", "\n", "</think>", "\n\n", "yes"],
    reasoning: "so",
    content: "yes",
    tokens: 5,
  },
  { what: "tags over several tokens", pieces: ["<th", "ink", ">a", "<", "/thi", "nk>b", "c"], reasoning: "a", content: "bc", tokens: 6 },
  { what: "all in one token", pieces: ["\n<think>\na\n\nb\n</think>\nc\n"], reasoning: "a\n\nb", content: "c\n", tokens: 1 },
  { what: "no thought", pieces: ["\n", "<", "b>", "\n"], reasoning: "", content: "\n<b>\n", tokens: null },
  {
    what: "a tag that is not the beginning",
    pieces: ["a ", "<think>", "b", "</think>"],
    reasoning: "",
    content: "a <think>b</think>",
    tokens: null,
  },
  { what: "a second thought", pieces: ["<think>a</think>", "<think>b</think>"], reasoning: "a", content: "<think>b</think>", tokens: 1 },
  {
    what: "a tag inside the thought",
    pieces: ["<think>", "<think>", "a</b>", "</think>"],
    reasoning: "<think>a</b>",
    content: "",
    tokens: 4,
  },
  { what: "the end inside the thought", pieces: ["<think>", "\n", "a\n", "</th"], reasoning: "a\n</th", content: "", tokens: 4 },
  { what: "the end inside the first tag", pieces: ["\n", "<thi"], reasoning: "", content: "\n<thi", tokens: null },
  { what: "an empty thought", pieces: ["<think>", "\n\n", "</think>", "\n\n", "a"], reasoning: "", content: "a", tokens: 3 },
  {
    what: "a closing tag alone",
    pieces: ["\n", "</thi", "nk>", "\n\n", "yes", "</think>"],
    reasoning: "",
    content: "yes</think>",
    tokens: null,
  },
  { what: "nothing", pieces: [], reasoning: "", content: "", tokens: null },
])("splits $what", ({ pieces, reasoning, content, tokens }) => {
  expect(run(pieces)).toEqual({ reasoning, content, tokens });
});

test.each([
  { what: "is closed", pieces: ["\n", "so", "\n\n</think>", "yes"], reasoning: "so", content: "yes", tokens: 3 },
  { what: "is not", pieces: ["so", " it"], reasoning: "so it", content: "", tokens: 2 },
])("begins inside the thought that the prompt opened and that $what", ({ pieces, reasoning, content, tokens }) => {
  expect(run(pieces, true)).toEqual({ reasoning, content, tokens });
});

test("gives the same parts however they are cut, those of a regular expression over the whole", () => {
  const piece = fc.constantFrom("<think>", "</think>", "<th", "ink>", "</", "<", ">", "\n", "\n\n", "a", "b c");
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 14 }), fc.array(fc.nat(40), { maxLength: 8 }), fc.boolean(), (pieces, cuts, inThought) => {
      const text = pieces.join("");
      const ends = [...cuts.filter((cut) => cut < text.length), text.length].sort((a, b) => a - b);
      const { reasoning, content, tokens } = run(
        ends.map((end, i) => text.slice(ends[i - 1] ?? 0, end)),
        inThought,
      );
      const match = /^\n*<think>\n*([\s\S]*?)(?:\n*<\/think>\n*([\s\S]*)|$)$/.exec(inThought ? `<think>${text}` : text);
      const withoutOrphan = text.replace(/^\n*<\/think>\n*/, "");
      expect({ reasoning, content }).toEqual({ reasoning: match?.[1] ?? "", content: match ? (match[2] ?? "") : withoutOrphan });
      expect(tokens === null).toBe(match === null);
    }),
    { seed: 1, numRuns: 2000 },
  );
});

test("gives text out as soon as it cannot become a tag", () => {
  const splitter = createReasoningSplitter(false);
  expect(splitter.push("<think>\nso <")).toEqual({ reasoning: "so ", content: "" });
  expect(splitter.push("b>\n")).toEqual({ reasoning: "<b>", content: "" });
  expect(splitter.push("</think>\nyes\n")).toEqual({ reasoning: "", content: "yes\n" });
});

test("finds a thought that the prompt leaves open", async () => {
  const { tokenizer } = (await createToyEngine()).engine;
  const opens = (prompt: string) => endsInThought(tokenizer, tokenizer.encodePrompt(prompt));
  for (const prompt of ["the fox <think>", "<think>\n\n"]) expect(opens(prompt)).toBe(true);
  for (const prompt of ["the fox", "<think>\n\n</think>\n\n", "<think> the"]) expect(opens(prompt)).toBe(false);
});

test("sees tags that the tokenizer calls special, and leaves them out where nobody asks for them", async () => {
  const files = await trainTokenizer(["the fox"], { vocabSize: 262 });
  const json = JSON.parse(String(files["tokenizer.json"]));
  const special = (id: number, content: string) => ({ ...json.added_tokens[0], id, content, special: true });
  const added_tokens = [...json.added_tokens, special(300, "<think>"), special(301, "</think>")];
  const tokenizer = await loadTokenizer({ ...files, "tokenizer.json": JSON.stringify({ ...json, added_tokens }) });
  const ids = tokenizer.encode("<think>so</think>yes", { addSpecialTokens: false });
  expect(ids).toEqual(expect.arrayContaining([300, 301]));
  const decode = (separateReasoning: boolean) => {
    const stream = decodeAnswer(tokenizer, [], { skipSpecialTokens: true, separateReasoning });
    return [...ids.map((id) => stream.push(id)), stream.flush()];
  };
  expect(run(decode(true))).toMatchObject({ reasoning: "so", content: "yes" });
  expect(decode(false).join("")).toBe("soyes");
});
