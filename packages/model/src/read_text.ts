import { createReadStream } from "node:fs";
import { fail } from "./errors.js";

const mib = 2 ** 20;

/** Bytes that a token has at most in any text that is worth reading; so many of a file's beginning hold the tokens that are wanted. */
const bytesPerToken = 512;

/**
 * The beginning of a text: so much that `tokens` are in it, at most 256 MiB.
 * @throws INVALID_ARGUMENT where there is no file, or no text in it, or bytes that are not UTF-8
 */
export async function readText(path: string, tokens: number): Promise<string> {
  const most = Math.min(256 * mib, Math.max(mib, bytesPerToken * tokens));
  const chunks: Buffer[] = [];
  try {
    for await (const chunk of createReadStream(path, { end: most - 1 })) chunks.push(chunk as Buffer);
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    if (code === "EISDIR") return fail("INVALID_ARGUMENT", `${path} is a folder; name a text file`, cause);
    return fail("INVALID_ARGUMENT", code === "ENOENT" ? `${path}: no such file` : `${path}: ${message}`, cause);
  }
  const text = decodeText(Buffer.concat(chunks), path, most);
  return text.trim() === "" ? fail("INVALID_ARGUMENT", `${path}: there is no text in it`) : text;
}

/**
 * Bytes as text; others would become U+FFFD without a word. A last character may be cut where there are as many as `most`, and does not count then.
 * @throws INVALID_ARGUMENT unless they are UTF-8
 */
export function decodeText(bytes: Uint8Array, name: string, most = Number.POSITIVE_INFINITY): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes, { stream: bytes.length === most });
  } catch (cause) {
    return fail("INVALID_ARGUMENT", `${name} is not UTF-8 text`, cause);
  }
}
