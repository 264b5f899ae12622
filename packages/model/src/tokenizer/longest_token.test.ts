import { expect, test } from "vitest";
import reference from "./testdata/reference.json" with { type: "json" };
import { loadTokenizer, type Tokenizer } from "./tokenizer.js";

const { trained } = reference;
const byteFallback = Object.fromEntries(
  Array.from({ length: 256 }, (_, byte) => [`<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`, byte]),
);
const mark = { type: "Replace", pattern: { String: " " }, content: "▁" };
const nfc = { type: "NFC" };

const load = (parts: object): Promise<Tokenizer> =>
  loadTokenizer({ "tokenizer.json": JSON.stringify({ ...trained, ...parts }), "tokenizer_config.json": "{}" });
/** A BPE model of single characters, without the byte level. */
const characters = (model: object) => ({
  pre_tokenizer: null,
  decoder: null,
  added_tokens: [],
  model: { type: "BPE", merges: [], ...model },
});
const added = (token: object) => ({ added_tokens: [...trained.added_tokens, { id: 400, ...token }] });

test("tells the bytes of the longest token, added ones too", async () => {
  const most = Math.max(
    ...[...Object.keys(trained.model.vocab), ...trained.added_tokens.map(({ content }) => content)].map((token) =>
      Buffer.byteLength(token),
    ),
  );
  const long = "<|a token longer than all others é|>";
  expect((await load({})).maxTokenBytes).toBe(most);
  expect((await load(added({ content: long }))).maxTokenBytes).toBe(Buffer.byteLength(long));
});

test.each([
  {
    what: "an added token that is looked for after a normalizer",
    parts: { normalizer: mark, ...added({ content: " ".repeat(20), normalized: true }) },
    text: "▁".repeat(20),
    bytes: 60,
  },
  {
    what: "bytes for unknown characters, though unknown ones would be fused",
    parts: characters({ vocab: { ...byteFallback, "<unk>": 256 }, byte_fallback: true, unk_token: "<unk>", fuse_unk: true }),
    text: "éé",
    bytes: 6,
  },
  { what: "a token for each unknown character", parts: characters({ vocab: { a: 0, "?": 1 }, unk_token: "?" }), text: "🫨", bytes: 4 },
])("bounds a text with $what", async ({ parts, text, bytes }) => {
  const tokenizer = await load(parts);
  expect(tokenizer.maxTokenBytes).toBe(bytes);
  expect(Buffer.byteLength(text)).toBeLessThanOrEqual(bytes * tokenizer.encode(text, { addSpecialTokens: false }).length);
});

test.each([
  {
    what: "fuses unknown characters",
    parts: characters({ vocab: { a: 0, "<unk>": 1 }, unk_token: "<unk>", fuse_unk: true }),
    text: "é".repeat(100),
  },
  { what: "leaves out unknown characters", parts: characters({ vocab: { a: 0 } }), text: `a${"é".repeat(100)}` },
  { what: "takes white space before an added token along", parts: added({ content: "<x>", lstrip: true }), text: `${" ".repeat(200)}<x>` },
  { what: "takes white space after an added token along", parts: added({ content: "<x>", rstrip: true }), text: `<x>${" ".repeat(200)}` },
  { what: "strips", parts: { normalizer: { type: "Strip", strip_left: true, strip_right: true } }, text: `a${" ".repeat(200)}` },
  {
    what: "replaces by less",
    parts: { normalizer: { type: "Sequence", normalizers: [mark, { type: "Replace", pattern: { String: "▁▁" }, content: "" }] } },
    text: `a${" ".repeat(200)}`,
  },
  {
    what: "composes",
    parts: { normalizer: nfc, ...added({ content: "\u212b".normalize("NFC").repeat(20), normalized: true }) },
    text: "\u212b".repeat(20),
  },
  {
    what: "removes what it splits at",
    parts: {
      ...characters({ vocab: { a: 0, "?": 1 }, unk_token: "?" }),
      pre_tokenizer: { type: "Split", pattern: { Regex: " " }, behavior: "Removed", invert: false },
    },
    text: `a${" ".repeat(200)}a`,
  },
])("knows no bound for a tokenizer that $what", async ({ parts, text }) => {
  const tokenizer = await load(parts);
  expect(tokenizer.maxTokenBytes).toBe(Number.POSITIVE_INFINITY);
  // A text that a bound by the vocabulary alone would refuse.
  const longest = Math.max(...Array.from({ length: tokenizer.vocabSize }, (_, id) => Buffer.byteLength(tokenizer.idToToken(id) ?? "")));
  expect(Buffer.byteLength(text)).toBeGreaterThan(longest * tokenizer.encode(text, { addSpecialTokens: false }).length);
});
