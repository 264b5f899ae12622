import { Tokenizer as Pipeline } from "@huggingface/tokenizers";
import { fail } from "../errors.js";
import { readTokenizerFiles, type TokenizerFiles } from "../save.js";
import { type AddedToken, createAddedTokenSplitter } from "./added_tokens.js";
import { createWordEncoder } from "./bpe.js";
import { forEachWord, toByteCharacters } from "./byte_level.js";
import { type ChatMessage, type ChatTemplateOptions, createChatTemplate } from "./chat_template.js";
import { createDecodeStream, createDetokenizer, type DecodeStream } from "./decode.js";
import { readTokenizerConfig, readTokenizerJson, type TokenizerFile, type TokenizerJson, textOf } from "./files.js";
import { bytesOfLongestToken } from "./longest_token.js";

export interface EncodeOptions {
  /** Add what the tokenizer puts around a text (bos before, with some an eos after). Default true. A text that starts with bos gets no second one. */
  readonly addSpecialTokens?: boolean | undefined;
}

export interface DecodeOptions {
  /** Leave out special tokens. Default true. */
  readonly skipSpecialTokens?: boolean | undefined;
  /** Special tokens that are not left out all the same. */
  readonly keptTokenIds?: ReadonlySet<number> | undefined;
  /** Whether a text goes before: some tokenizers drop a space at the start of one (Llama 2), which here is between two words. Default false. */
  readonly continues?: boolean | undefined;
}

/** Text to ids and back, the reference library's ids for the same tokenizer.json. */
export interface Tokenizer {
  /** One more than the highest id; the rows of the embedding may be more. */
  readonly vocabSize: number;
  /**
   * Bytes of a text that one token stands for at most: a text of more than n times as many does not fit into n tokens. Infinity where one token may
   * stand for any number: with a normalizer or pre-tokenizer that shortens a text, unknown characters that are fused or have no token, or added
   * tokens that take white space along.
   */
  readonly maxTokenBytes: number;
  readonly bosTokenId: number | null;
  readonly eosTokenId: number | null;
  readonly padTokenId: number | null;
  readonly bosToken: string | null;
  readonly eosToken: string | null;
  readonly padToken: string | null;
  /** Ids that `skipSpecialTokens` leaves out. */
  readonly specialTokenIds: ReadonlySet<number>;
  encode(text: string, options?: EncodeOptions): number[];
  /** Ids of a prompt to continue: exactly one bos, and no eos after it even where the tokenizer appends one. */
  encodePrompt(text: string): number[];
  /** Ids of a conversation through the checkpoint's template, with exactly one bos. Throws CHAT_TEMPLATE_MISSING or CHAT_TEMPLATE_FAILED. */
  encodeChat(messages: readonly ChatMessage[], options?: ChatTemplateOptions): number[];
  /** The template's text for a conversation; encode it with `addSpecialTokens: false`. */
  applyChatTemplate(messages: readonly ChatMessage[], options?: ChatTemplateOptions): string;
  /** The source of the chat template (of several, `default`), or null. */
  readonly chatTemplate: string | null;
  decode(ids: readonly number[], options?: DecodeOptions): string;
  /** Decodes ids as they are generated, never half a character; all parts joined equal `decode` of all ids. */
  decodeStream(options?: DecodeOptions): DecodeStream;
  /** The token of an id as it stands in the vocabulary, or undefined. */
  idToToken(id: number): string | undefined;
  /** The id of a token of the vocabulary, or undefined. */
  tokenToId(token: string): number | undefined;
  /** The bytes an id adds to a text; empty for ids outside the vocabulary. */
  tokenBytes(id: number): Uint8Array;
  /**
   * Bytes of each id, [vocabSize], 0 for special tokens: the sum over a text's ids is the length of the text in UTF-8,
   * the denominator of bits a byte.
   */
  byteLengths(): Uint16Array;
}

/**
 * Opens a tokenizer from a checkpoint directory (tokenizer.json, tokenizer_config.json, chat_template.jinja) or from their contents by name.
 * The model must be BPE. Throws TOKENIZER_INVALID.
 *
 * @example const tokenizer = await loadTokenizer("./checkpoint"); tokenizer.decode(tokenizer.encode("Hello")); // "Hello"
 */
export async function loadTokenizer(source: string | TokenizerFiles): Promise<Tokenizer> {
  const files = typeof source === "string" ? await readTokenizerFiles(source) : source;
  const file = readTokenizerJson(files, typeof source === "string" ? source : "the given files");
  const { json, vocabulary } = file;
  const config = readTokenizerConfig(files);
  const pipeline = openPipeline(json);
  const encodeText = createTextEncoder(file, pipeline);
  const { tokenBytes, dropsFirstSpace } = createDetokenizer(json.decoder);
  const chatTemplate = createChatTemplate(config, textOf(files, "chat_template.jinja"));

  const added = new Map(json.added_tokens.map(({ id, content }) => [id, content]));
  const addedIds = new Map(json.added_tokens.map(({ id, content }) => [content, id]));
  const vocabSize = json.added_tokens.reduce((size, { id }) => Math.max(size, id + 1), vocabulary.size);
  const tokenToId = (token: string): number | undefined => addedIds.get(token) ?? vocabulary.get(token);
  const idToToken = (id: number): string | undefined => added.get(id) ?? vocabulary.tokenOf(id);
  const specialTokenIds = new Set(json.added_tokens.filter((token) => token.special).map((token) => token.id));
  const idOf = (token: string | null): number | null => (token === null ? null : (tokenToId(token) ?? null));
  const bosTokenId = idOf(config.bos_token);
  const eosTokenId = idOf(config.eos_token);
  const around = specialTokensAround(pipeline.post_processor, tokenToId);
  if (config.add_bos_token === true && bosTokenId !== null && !around.before.includes(bosTokenId)) around.before.unshift(bosTokenId);

  const nothing = new Uint8Array(0);
  const bytesCache: (Uint8Array | undefined)[] = new Array(vocabSize);
  function bytesOf(id: number): Uint8Array {
    const known = bytesCache[id];
    if (known) return known;
    const token = idToToken(id);
    const bytes = token === undefined ? nothing : tokenBytes(token);
    if (token !== undefined) bytesCache[id] = bytes;
    return bytes;
  }
  function bytesWithoutSpecials(id: number): Uint8Array {
    return specialTokenIds.has(id) ? nothing : bytesOf(id);
  }
  function decodeStream({ skipSpecialTokens = true, keptTokenIds, continues = false }: DecodeOptions = {}): DecodeStream {
    const bytes = skipSpecialTokens ? (id: number) => (keptTokenIds?.has(id) ? bytesOf(id) : bytesWithoutSpecials(id)) : bytesOf;
    return createDecodeStream(bytes, dropsFirstSpace && !continues);
  }
  function withPrefix(body: number[]): number[] {
    const { before } = around;
    const prefix = bosTokenId !== null && body[0] === bosTokenId && before.at(-1) === bosTokenId ? before.slice(0, -1) : before;
    return prefix.length === 0 ? body : prefix.concat(body);
  }
  function applyChatTemplate(messages: readonly ChatMessage[], options?: ChatTemplateOptions): string {
    if (chatTemplate) return chatTemplate.render(messages, options);
    fail(
      "CHAT_TEMPLATE_MISSING",
      "this tokenizer has no chat template; add chat_template.jinja beside tokenizer.json, or use plain completions",
    );
  }

  return {
    vocabSize,
    maxTokenBytes: bytesOfLongestToken(file, pipeline.normalizer),
    bosTokenId,
    eosTokenId,
    padTokenId: idOf(config.pad_token),
    bosToken: config.bos_token,
    eosToken: config.eos_token,
    padToken: config.pad_token,
    specialTokenIds,
    chatTemplate: chatTemplate?.source ?? null,
    encode: (text, { addSpecialTokens = true } = {}) =>
      addSpecialTokens ? withPrefix(encodeText(text)).concat(around.after) : encodeText(text),
    encodePrompt: (text) => withPrefix(encodeText(text)),
    encodeChat: (messages, options) => withPrefix(encodeText(applyChatTemplate(messages, options))),
    applyChatTemplate,
    decodeStream,
    decode(list, options) {
      const stream = decodeStream(options);
      let text = "";
      for (const id of list) text += stream.push(id);
      return text + stream.flush();
    },
    idToToken,
    tokenToId,
    tokenBytes: (id) => bytesOf(id).slice(),
    byteLengths: () => Uint16Array.from({ length: vocabSize }, (_, id) => bytesWithoutSpecials(id).length),
  };
}

/** The library's normalizer, pre-tokenizer and post-processor, without its model. */
function openPipeline({ normalizer, pre_tokenizer, post_processor, added_tokens }: TokenizerJson): Pipeline {
  try {
    const special = added_tokens.filter((token) => token.special);
    return new Pipeline(
      { normalizer, pre_tokenizer, post_processor, decoder: null, added_tokens: special, model: { type: "BPE", vocab: {}, merges: [] } },
      {},
    );
  } catch (cause) {
    fail("TOKENIZER_INVALID", `tokenizer.json: ${(cause as Error).message}`, cause);
  }
}

function createTextEncoder(file: TokenizerFile, pipeline: Pipeline): (text: string) => number[] {
  const { normalizer } = pipeline;
  const { json } = file;
  const cut = createWordCutter(file, pipeline);
  const added = json.added_tokens.map(({ single_word, ...token }): AddedToken => ({ ...token, singleWord: single_word }));
  const splitRaw = createAddedTokenSplitter(added.filter((token) => !token.normalized || normalizer === null));
  const normalized = normalizer === null ? [] : added.filter((token) => token.normalized);
  const splitNormalized = createAddedTokenSplitter(
    normalized.map((token) => ({ ...token, content: normalizer?.(token.content) ?? token.content })),
  );

  return (text) => {
    const ids: number[] = [];
    const onToken = (id: number) => void ids.push(id);
    const onText = (plain: string) => cut(plain, ids);
    splitRaw(text, (raw) => (normalizer === null ? onText(raw) : splitNormalized(normalizer(raw), onText, onToken)), onToken);
    return ids;
  };
}

/** Cuts a text into words and appends their ids. */
function createWordCutter({ json, vocabulary, merges }: TokenizerFile, pipeline: Pipeline): (text: string, ids: number[]) => void {
  const { model, pre_tokenizer } = json;
  const bpe = {
    vocab: vocabulary,
    merges,
    unknownToken: model.unk_token,
    fuseUnknown: model.fuse_unk,
    byteFallback: model.byte_fallback,
    ignoreMerges: model.ignore_merges,
  };
  if (pre_tokenizer?.type === "ByteLevel" && pre_tokenizer.use_regex !== false) {
    const encodeWord = createWordEncoder(bpe, toByteCharacters);
    const addsSpace = pre_tokenizer.add_prefix_space === true;
    return (text, ids) => forEachWord(addsSpace && !text.startsWith(" ") ? ` ${text}` : text, (word) => append(ids, encodeWord(word)));
  }
  const encodeWord = createWordEncoder(bpe);
  return (text, ids) => {
    const words = pipeline.pre_tokenizer === null ? [text] : pipeline.pre_tokenizer(text, undefined);
    for (const word of words) append(ids, encodeWord(word));
  };
}

function append(ids: number[], more: readonly number[]): void {
  for (let i = 0; i < more.length; i++) ids.push(more[i] as number);
}

/** The ids a post-processor puts before and after a text, found by letting it run around one marked token. Throws TOKENIZER_INVALID. */
function specialTokensAround(
  postProcessor: Pipeline["post_processor"],
  tokenToId: (token: string) => number | undefined,
): { before: number[]; after: number[] } {
  if (postProcessor === null) return { before: [], after: [] };
  const mark = "\u0000text";
  const idsOf = (list: readonly string[]) => list.map(tokenToId).filter((id) => id !== undefined);
  try {
    const { tokens } = postProcessor([mark], null, true);
    const at = tokens.indexOf(mark);
    return { before: idsOf(tokens.slice(0, at)), after: idsOf(tokens.slice(at + 1)) };
  } catch (cause) {
    const expected = 'TemplateProcessing needs a list "single" of special tokens and the sequence A';
    fail("TOKENIZER_INVALID", `tokenizer.json: post_processor: ${expected} (${(cause as Error).message})`, cause);
  }
}
