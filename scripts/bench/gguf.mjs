// Writes a GGUF file of a known model's shape with random weights, for the speed of llama.cpp. The format: "GGUF", version, counts, key-value pairs, then for
// every tensor its name, dimensions (innermost first), type and offset, then the tensors, each at a multiple of 32 bytes.
import { randomBytes } from "node:crypto";
import { closeSync, ftruncateSync, openSync, renameSync, writeSync } from "node:fs";

/** Blocks of so many elements in so many bytes; the first two bytes of a quantised block are its float16 scale. */
const tensorTypes = {
  F32: { id: 0, elements: 1, bytes: 4 },
  Q4_0: { id: 2, elements: 32, bytes: 18, scale: 0.02 / 4.6 },
  Q8_0: { id: 8, elements: 32, bytes: 34, scale: 0.02 / 74 },
};
const fileTypes = { Q4_0: 2, Q8_0: 7 };
export const ggufTypes = Object.keys(fileTypes);

export const ggufShapes = {
  olmoe: {
    architecture: "olmoe",
    layers: 16,
    width: 2048,
    heads: 16,
    keyHeads: 16,
    headSize: 128,
    inner: 1024,
    vocabulary: 50304,
    experts: 64,
    used: 8,
    context: 4096,
    ropeBase: 1e4,
    eps: 1e-5,
    tied: false,
    wholeNorms: true,
  },
  "qwen3-4b": {
    architecture: "qwen3",
    layers: 36,
    width: 2560,
    heads: 32,
    keyHeads: 8,
    headSize: 128,
    inner: 9728,
    vocabulary: 151936,
    experts: 0,
    used: 0,
    context: 40960,
    ropeBase: 1e6,
    eps: 1e-6,
    tied: true,
    wholeNorms: false,
  },
};

/** Name, dimensions and type of every tensor. */
function tensorsOf(shape, type) {
  const { layers, width, heads, keyHeads, headSize, inner, vocabulary, experts, tied, wholeNorms } = shape;
  const queries = heads * headSize;
  const keys = keyHeads * headSize;
  const block = {
    "attn_norm.weight": [[width], "F32"],
    "attn_q.weight": [[width, queries], type],
    "attn_k.weight": [[width, keys], type],
    "attn_v.weight": [[width, keys], type],
    "attn_output.weight": [[queries, width], type],
    "attn_q_norm.weight": [[wholeNorms ? queries : headSize], "F32"],
    "attn_k_norm.weight": [[wholeNorms ? keys : headSize], "F32"],
    "ffn_norm.weight": [[width], "F32"],
    ...(experts > 0
      ? {
          "ffn_gate_inp.weight": [[width, experts], "F32"],
          "ffn_gate_exps.weight": [[width, inner, experts], type],
          "ffn_up_exps.weight": [[width, inner, experts], type],
          "ffn_down_exps.weight": [[inner, width, experts], type],
        }
      : { "ffn_gate.weight": [[width, inner], type], "ffn_up.weight": [[width, inner], type], "ffn_down.weight": [[inner, width], type] }),
  };
  return [
    { name: "token_embd.weight", dimensions: [width, vocabulary], type },
    { name: "output_norm.weight", dimensions: [width], type: "F32" },
    ...(tied ? [] : [{ name: "output.weight", dimensions: [width, vocabulary], type }]),
    ...Array.from({ length: layers }, (_, layer) =>
      Object.entries(block).map(([name, [dimensions, kind]]) => ({ name: `blk.${layer}.${name}`, dimensions, type: kind })),
    ).flat(),
  ];
}

const elementsOf = ({ dimensions }) => dimensions.reduce((product, n) => product * n, 1);
const bytesOf = (tensor) => (elementsOf(tensor) / tensorTypes[tensor.type].elements) * tensorTypes[tensor.type].bytes;

/** What one token needs: bytes read in generation, and multiplications and additions in a prompt, where the head is needed for the last token only. */
export function ggufWork(shape, type) {
  const tensors = tensorsOf(shape, type);
  const isHead = ({ name }) => name === (shape.tied ? "token_embd.weight" : "output.weight");
  const used = (tensor) =>
    tensor.name.includes("_exps") ? shape.used / shape.experts : !isHead(tensor) && tensor.name.startsWith("token_embd") ? 0 : 1;
  const sum = (numbers) => numbers.reduce((total, n) => total + n, 0);
  const head = tensors.filter(isHead);
  return {
    bytesPerToken: sum(tensors.map((tensor) => used(tensor) * bytesOf(tensor))),
    flopsPerToken: 2 * sum(tensors.filter((tensor) => !isHead(tensor)).map((tensor) => used(tensor) * elementsOf(tensor))),
    headFlops: 2 * sum(head.map(elementsOf)),
  };
}

const number = {
  u32: (value) => Buffer.from(Uint32Array.of(value).buffer),
  i32: (value) => Buffer.from(Int32Array.of(value).buffer),
  u64: (value) => Buffer.from(BigUint64Array.of(BigInt(value)).buffer),
  f32: (value) => Buffer.from(Float32Array.of(value).buffer),
};
const text = (value) => Buffer.concat([number.u64(Buffer.byteLength(value)), Buffer.from(value)]);
const kinds = { u32: 4, i32: 5, f32: 6, text: 8 };
const write = { ...number, text };

/** A key-value pair; an array where `value` is one. */
function pair(key, kind, value) {
  const head = Array.isArray(value) ? [number.u32(9), number.u32(kinds[kind]), number.u64(value.length)] : [number.u32(kinds[kind])];
  return Buffer.concat([text(key), ...head, ...[value].flat().map(write[kind])]);
}

/** A vocabulary of SentencePiece's kind: three special tokens, the 256 bytes, and words that mean nothing. */
function vocabularyPairs(size) {
  const special = ["<unk>", "<s>", "</s>"];
  const byte = (i) => `<0x${(i - 3).toString(16).toUpperCase().padStart(2, "0")}>`;
  const tokens = Array.from({ length: size }, (_, i) => special[i] ?? (i < 259 ? byte(i) : `\u2581w${i}`));
  return [
    pair("tokenizer.ggml.model", "text", "llama"),
    pair("tokenizer.ggml.tokens", "text", tokens),
    pair(
      "tokenizer.ggml.scores",
      "f32",
      tokens.map((_, i) => -i),
    ),
    pair(
      "tokenizer.ggml.token_type",
      "i32",
      tokens.map((_, i) => (i === 0 ? 2 : i < 3 ? 3 : i < 259 ? 6 : 1)),
    ),
    pair("tokenizer.ggml.bos_token_id", "u32", 1),
    pair("tokenizer.ggml.eos_token_id", "u32", 2),
    pair("tokenizer.ggml.unknown_token_id", "u32", 0),
  ];
}

function pairsOf(name, shape, type) {
  const key = (suffix) => `${shape.architecture}.${suffix}`;
  return [
    pair("general.architecture", "text", shape.architecture),
    pair("general.name", "text", `${name}, random`),
    pair("general.alignment", "u32", alignment),
    pair("general.file_type", "u32", fileTypes[type]),
    pair(key("context_length"), "u32", shape.context),
    pair(key("embedding_length"), "u32", shape.width),
    pair(key("block_count"), "u32", shape.layers),
    pair(key("feed_forward_length"), "u32", shape.inner),
    pair(key("attention.head_count"), "u32", shape.heads),
    pair(key("attention.head_count_kv"), "u32", shape.keyHeads),
    pair(key("attention.key_length"), "u32", shape.headSize),
    pair(key("attention.value_length"), "u32", shape.headSize),
    pair(key("attention.layer_norm_rms_epsilon"), "f32", shape.eps),
    pair(key("rope.freq_base"), "f32", shape.ropeBase),
    pair(key("rope.dimension_count"), "u32", shape.headSize),
    pair(key("vocab_size"), "u32", shape.vocabulary),
    ...(shape.experts > 0 ? [pair(key("expert_count"), "u32", shape.experts), pair(key("expert_used_count"), "u32", shape.used)] : []),
    ...vocabularyPairs(shape.vocabulary),
  ];
}

const alignment = 32;
const aligned = (bytes) => Math.ceil(bytes / alignment) * alignment;

/** The bits of a small positive number as float16. */
function half(value) {
  const exponent = Math.floor(Math.log2(value));
  if (exponent < -14) return Math.round(value * 2 ** 24);
  return ((exponent + 15) << 10) + Math.round((value / 2 ** exponent - 1) * 1024);
}

/** Some megabytes of random blocks of a type, to be repeated. */
function randomBlocks(type) {
  const { bytes, scale } = tensorTypes[type];
  const blocks = Math.floor((8 << 20) / bytes);
  if (type === "F32") return Buffer.from(Float32Array.from({ length: blocks }, () => 0.07 * (Math.random() - 0.5)).buffer);
  const data = randomBytes(blocks * bytes);
  for (let i = 0; i < blocks; i++) data.writeUInt16LE(half(scale), i * bytes);
  return data;
}

/** Writes `path`: "olmoe" or "qwen3-4b" in Q4_0 or Q8_0. The file has its name when it is whole. */
export function writeGguf(path, name, type) {
  const shape = ggufShapes[name];
  const tensors = tensorsOf(shape, type);
  const pairs = pairsOf(name, shape, type);
  let size = 0;
  const entries = tensors.map((tensor) => {
    const offset = size;
    size += aligned(bytesOf(tensor));
    const { name: tensorName, dimensions } = tensor;
    return Buffer.concat([
      text(tensorName),
      number.u32(dimensions.length),
      ...dimensions.map(number.u64),
      number.u32(tensorTypes[tensor.type].id),
      number.u64(offset),
    ]);
  });
  const head = Buffer.concat([
    Buffer.from("GGUF"),
    number.u32(3),
    number.u64(tensors.length),
    number.u64(pairs.length),
    ...pairs,
    ...entries,
  ]);
  const file = openSync(`${path}.partial`, "w");
  writeSync(file, head);
  const blocks = { F32: randomBlocks("F32"), [type]: randomBlocks(type) };
  let position = aligned(head.length);
  for (const tensor of tensors) {
    const isNorm = tensor.dimensions.length === 1;
    const data = isNorm ? Buffer.from(new Float32Array(tensor.dimensions[0]).fill(1).buffer) : blocks[tensor.type];
    const bytes = bytesOf(tensor);
    for (let done = 0; done < bytes; done += data.length) writeSync(file, data, 0, Math.min(data.length, bytes - done), position + done);
    position += aligned(bytes);
  }
  ftruncateSync(file, position);
  closeSync(file);
  renameSync(`${path}.partial`, path);
}
