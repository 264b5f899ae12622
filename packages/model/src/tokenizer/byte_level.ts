// GPT-2's byte alphabet: every byte is written as one printable character, so that a vocabulary of bytes is a vocabulary of strings.
// Printable Latin-1 stands for itself; the other 68 bytes become U+0100 and up, in order ("Ġ" is the space).

const printable = (byte: number) => (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;

/** Character of each byte, 256 of them. */
export const byteCharacters: readonly string[] = (() => {
  let moved = 0;
  return Array.from({ length: 256 }, (_, byte) => String.fromCharCode(printable(byte) ? byte : 0x100 + moved++));
})();

const bytesOfCharacters = new Map(byteCharacters.map((character, byte) => [character, byte]));
const encoder = new TextEncoder();

/** Writes the UTF-8 bytes of a text in the byte alphabet: " é" → "ĠÃ©". */
export function toByteCharacters(text: string): string {
  let characters = "";
  for (const byte of encoder.encode(text)) characters += byteCharacters[byte];
  return characters;
}

/** The bytes a token of a byte-level vocabulary stands for; a token outside the alphabet (an added one) is its own UTF-8. */
export function fromByteCharacters(token: string): Uint8Array {
  const bytes = new Uint8Array(token.length);
  for (let i = 0; i < token.length; i++) {
    const byte = bytesOfCharacters.get(token[i] as string);
    if (byte === undefined) return encoder.encode(token);
    bytes[i] = byte;
  }
  return bytes;
}

// The pattern of GPT-2's ByteLevel pre-tokenizer. White space is Unicode's (as in the reference), not JavaScript's `\s`, which
// counts U+FEFF and leaves out U+0085.
const word =
  /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+/gu;
const space = /\p{White_Space}/u;
const pieceLength = 1 << 16;

/**
 * Calls `visit` for each word of the text, in order; words joined give the text back.
 * Long texts are cut into pieces first, each before a white space that follows something else, where no word ever reaches across.
 */
export function forEachWord(text: string, visit: (word: string) => void): void {
  let start = 0;
  while (start < text.length) {
    let end = Math.min(start + pieceLength, text.length);
    while (end < text.length && !(space.test(text[end] as string) && !space.test(text[end - 1] as string))) end++;
    const words = (start === 0 && end === text.length ? text : text.slice(start, end)).match(word);
    if (words) for (const each of words) visit(each);
    start = end;
  }
}
