import fc from "fast-check";
import { expect, test } from "vitest";
import { createDecodeStream, createDetokenizer } from "./decode.js";

const bytesOf = (id: number) => Uint8Array.of(id);

test("never emits half a character", () => {
  const stream = createDecodeStream(bytesOf, false);
  const parts = Array.from(new TextEncoder().encode("a🙂é"), (byte) => stream.push(byte));
  expect(parts).toEqual(["a", "", "", "", "🙂", "", "é"]);
  expect(stream.flush()).toBe("");
});

test("gives back at the end what never became a character", () => {
  const stream = createDecodeStream(bytesOf, false);
  expect(stream.push(0xf0, 0x9f, 0x99)).toBe("");
  expect(stream.flush()).toBe("\ufffd");
  expect(stream.push(0x61)).toBe("a");
});

test("keeps a byte order mark", () => {
  expect(createDecodeStream(bytesOf, false).push(0xef, 0xbb, 0xbf, 0x61)).toBe("\ufeffa");
});

test("emits in parts what the bytes give as a whole, valid or not", () => {
  const byte = fc.oneof(fc.integer({ min: 0, max: 255 }), fc.constantFrom(0xe2, 0x82, 0xac, 0xf0, 0x9f, 0x99, 0x82, 0xed, 0xa0));
  fc.assert(
    fc.property(fc.array(byte, { maxLength: 40 }), (bytes) => {
      const stream = createDecodeStream(bytesOf, false);
      const parts = bytes.map((each) => stream.push(each));
      expect(parts.join("") + stream.flush()).toBe(new TextDecoder("utf-8", { ignoreBOM: true }).decode(Uint8Array.from(bytes)));
    }),
    { numRuns: 500 },
  );
});

test("reads SentencePiece's decoders: space marks, bytes, one space less at the start", () => {
  const replace = { type: "Replace", pattern: { String: "▁" }, content: " " };
  const strip = { type: "Strip", content: " ", start: 1, stop: 0 };
  const { tokenBytes, dropsFirstSpace } = createDetokenizer({
    type: "Sequence",
    decoders: [replace, { type: "ByteFallback" }, { type: "Fuse" }, strip],
  });
  const tokens = ["▁a", "<0xC3>", "<0xA9>", "▁b"];
  const stream = createDecodeStream((id) => tokenBytes(tokens[id] as string), dropsFirstSpace);
  expect([stream.push(0), stream.push(1), stream.push(2), stream.push(3)]).toEqual(["a", "", "é", " b"]);
});

test("refuses a decoder it does not know", () => {
  expect(() => createDetokenizer({ type: "CTC" })).toThrow('decoder {"type":"CTC"} is not supported');
  expect(() => createDetokenizer({ type: "Sequence" })).toThrow("decoder.decoders: expected a list");
});
