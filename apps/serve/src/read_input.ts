import { InputError } from "./exit.js";

const mib = 2 ** 20;

/** Most bytes of a text on stdin: far more than any context holds, far less than a string can. */
const most = 64 * mib;

/** All of stdin. */
export async function readInput(input: AsyncIterable<Buffer | string>): Promise<string> {
  const { decodeText } = await import("@zaya/model/internal");
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of input) {
    const bytes = typeof chunk === "string" ? Buffer.from(chunk) : chunk;
    length += bytes.length;
    if (length > most) throw new InputError(`stdin has more than ${most / mib} MiB; give a shorter prompt`);
    chunks.push(bytes);
  }
  return decodeText(Buffer.concat(chunks), "stdin");
}
