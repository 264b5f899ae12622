// A reader of JSON in UTF-8 that makes no JavaScript values: for files of tens of megabytes that are wanted as tables, not as objects.
// What it passes over it does not check; a caller that meets an error lets JSON.parse say what is wrong.

const quote = 0x22;
const comma = 0x2c;
const colon = 0x3a;
const backslash = 0x5c;

const escapes: Readonly<Record<string, number>> = { b: 8, f: 12, n: 10, r: 13, t: 9, '"': quote, "\\": backslash, "/": 0x2f };

/** Bytes that grow at their end. */
export interface ByteBuffer {
  bytes: Uint8Array;
  length: number;
}

/** An empty buffer. */
export function createByteBuffer(capacity = 64): ByteBuffer {
  return { bytes: new Uint8Array(capacity), length: 0 };
}

/** UTF-8 as text; a byte order mark is a character like any other. */
export function textOfBytes(bytes: Uint8Array): string {
  return decoder.decode(bytes);
}

const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

/** Makes room for `more` bytes and returns what they can be written to. */
export function reserve(buffer: ByteBuffer, more: number): Uint8Array {
  if (buffer.length + more > buffer.bytes.length) {
    const larger = new Uint8Array(2 * (buffer.length + more));
    larger.set(buffer.bytes.subarray(0, buffer.length));
    buffer.bytes = larger;
  }
  return buffer.bytes;
}

/** A place in a JSON text. The methods throw SyntaxError where the text does not go on as they expect. */
export interface JsonCursor {
  /** Goes past white space and returns the byte that is there, undefined at the end of the text. */
  peek(): number | undefined;
  /** The offset in the text. */
  at(): number;
  seek(at: number): void;
  /** The text from an offset to here. */
  textFrom(start: number): string;
  /** Appends every key of the object that begins here to `keys` and calls `visit`, which must read or skip the value. */
  forEachKey(keys: ByteBuffer, visit: () => void): void;
  /** Calls `visit` for every element of the list that begins here; it must read or skip it. */
  forEachElement(visit: (index: number) => void): void;
  /** Appends the UTF-8 bytes of the string that begins here to `buffer`. */
  readString(buffer: ByteBuffer): void;
  /** The whole number that begins here, or -1, after which nothing is read, where there is another value. */
  readWhole(): number;
  skip(): void;
}

/** Starts at the beginning of the text, after a byte order mark. */
export function createJsonCursor(bytes: Uint8Array): JsonCursor {
  let at = bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf ? 3 : 0;

  function unexpected(): never {
    throw new SyntaxError(at < bytes.length ? `unexpected byte ${bytes[at]} at ${at}` : "unexpected end");
  }
  function skipSpace(): number | undefined {
    let byte = bytes[at];
    while (byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09) byte = bytes[++at];
    return byte;
  }
  function take(expected: number): void {
    if (skipSpace() !== expected) unexpected();
    at++;
  }
  /** Reads items with commas between them up to `close`. */
  function items(close: number, item: (index: number) => void): void {
    if (skipSpace() === close) {
      at++;
      return;
    }
    for (let index = 0; ; index++) {
      item(index);
      const byte = skipSpace();
      if (byte !== close && byte !== comma) unexpected();
      at++;
      if (byte === close) return;
    }
  }
  /** Goes past a string and returns where its closing quote is. */
  function skipString(): number {
    take(quote);
    let end = at;
    for (let byte = bytes[end]; byte !== quote; byte = bytes[end]) {
      if (byte === undefined) unexpected();
      end += byte === backslash ? 2 : 1;
    }
    at = end + 1;
    return end;
  }

  const cursor: JsonCursor = {
    peek: skipSpace,
    at: () => at,
    textFrom: (start) => textOfBytes(bytes.subarray(start, at)),
    seek(place) {
      at = place;
    },
    forEachKey(keys, visit) {
      take(0x7b);
      items(0x7d, () => {
        cursor.readString(keys);
        take(colon);
        visit();
      });
    },
    forEachElement(visit) {
      take(0x5b);
      items(0x5d, visit);
    },
    readString(buffer) {
      skipSpace();
      let from = at + 1;
      const end = skipString();
      const into = reserve(buffer, end - from);
      let length = buffer.length;
      while (from < end) {
        const byte = bytes[from++] as number;
        if (byte !== backslash) {
          into[length++] = byte;
          continue;
        }
        const escape = readEscape(bytes, from) ?? unexpected();
        length = writeUtf8(escape.code, into, length);
        from = escape.end;
      }
      buffer.length = length;
    },
    readWhole() {
      skipSpace();
      let end = at;
      let value = 0;
      for (let digit = (bytes[end] as number) - 0x30; digit >= 0 && digit <= 9; digit = (bytes[end] as number) - 0x30) {
        value = value * 10 + digit;
        end++;
      }
      if (end === at || isLiteral(bytes[end])) return -1;
      at = end;
      return value;
    },
    skip() {
      const byte = skipSpace();
      if (byte === quote) {
        skipString();
      } else if (byte === 0x7b) {
        at++;
        items(0x7d, () => {
          skipString();
          take(colon);
          cursor.skip();
        });
      } else if (byte === 0x5b) {
        at++;
        items(0x5d, cursor.skip);
      } else {
        const from = at;
        while (isLiteral(bytes[at])) at++;
        if (at === from) unexpected();
      }
    },
  };
  return cursor;
}

/** Whether a byte can be part of a number, true, false or null. */
function isLiteral(byte: number | undefined): boolean {
  return byte !== undefined && byte > 0x20 && byte !== comma && byte !== 0x5d && byte !== 0x7d;
}

/** The code point that follows a backslash, both halves of a surrogate pair together, or null. */
function readEscape(bytes: Uint8Array, at: number): { readonly code: number; readonly end: number } | null {
  const letter = String.fromCharCode(bytes[at] as number);
  if (letter !== "u") {
    const code = escapes[letter];
    return code === undefined ? null : { code, end: at + 1 };
  }
  const high = readHex(bytes, at + 1);
  if (high === null) return null;
  const low = high >> 10 === 0x36 && bytes[at + 5] === backslash && bytes[at + 6] === 0x75 ? readHex(bytes, at + 7) : null;
  if (low === null || low >> 10 !== 0x37) return { code: high, end: at + 5 };
  return { code: 0x10000 + ((high & 0x3ff) << 10) + (low & 0x3ff), end: at + 11 };
}

function readHex(bytes: Uint8Array, at: number): number | null {
  const digits = String.fromCharCode(...bytes.subarray(at, at + 4));
  return /^[0-9a-fA-F]{4}$/.test(digits) ? Number.parseInt(digits, 16) : null;
}

/** Never more bytes than the escape that told the code point. */
function writeUtf8(code: number, into: Uint8Array, at: number): number {
  if (code < 0x80) {
    into[at] = code;
    return at + 1;
  }
  const following = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
  into[at] = (0xff00 >> (following + 1)) | (code >> (6 * following));
  for (let i = 1; i <= following; i++) into[at + i] = 0x80 | ((code >> (6 * (following - i))) & 0x3f);
  return at + following + 1;
}
