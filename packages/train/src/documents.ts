import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { extname } from "node:path";
import { fail } from "./errors.js";
import { parseJson } from "./files.js";

/** Characters of a line of JSONL at most: V8 has no strings of twice as many. */
const longestLine = 2 ** 28;

const recordFiles = new Set([".jsonl", ".ndjson"]);

/** A stretch of text that is read from its own beginning: nothing before it is seen by attention, convolutions or value delay. */
export interface Document {
  readonly text: string;
  /** False where a long source was cut and goes on in the next document. */
  readonly complete: boolean;
}

export interface ReadDocumentsOptions {
  /** Keys of a JSONL record that make up a document, joined by a newline. */
  readonly fields: readonly string[];
  /** Longer texts are cut here, at a paragraph or line where there is one. In characters. */
  readonly maxLength: number;
}

/**
 * Reads documents from files: a `.jsonl` or `.ndjson` file holds one a line (an object with the fields, or a string); any other file is one UTF-8
 * text. An object with `"continues": true` is a document that goes on in another one, as held-out.jsonl of a run has them.
 *
 * Throws INVALID_DATA for a file that is missing, is named twice, is no regular one, is not UTF-8, or has a malformed line (with file and line number).
 */
export async function* readDocuments(files: readonly string[], options: ReadDocumentsOptions): AsyncGenerator<Document> {
  await expectDistinct(files);
  for (const file of files) {
    const documents = holdsRecords(file) ? readRecords(file, options.fields) : readText(file);
    yield* cut(documents, options.maxLength);
  }
}

/**
 * Refuses a .json file, which would be read as one text, and fields where no file has records.
 *
 * @throws INVALID_OPTIONS
 */
export function expectFormats(files: readonly string[], fields: readonly string[] | undefined): void {
  const json = files.find((file) => extname(file).toLowerCase() === ".json");
  if (json !== undefined) fail("INVALID_OPTIONS", `${json}: is JSON as a whole; write it to a .jsonl file, one record a line`);
  if (fields !== undefined && !files.some(holdsRecords))
    fail("INVALID_OPTIONS", "fields: only records have them, and no file is a .jsonl or .ndjson one; leave them out");
}

/** Whether a file is read a line at a time. */
export function holdsRecords(file: string): boolean {
  return recordFiles.has(extname(file).toLowerCase());
}

/**
 * What is evaluated of a file that is read twice would be trained on too.
 *
 * @throws INVALID_DATA naming a file that is there twice, by whatever names
 */
export async function expectDistinct(files: readonly string[]): Promise<void> {
  const names = new Map<string, string>();
  for (const file of files) {
    const found = await stat(file, { bigint: true }).catch(() => null); // it is told when it is read that there is none
    if (!found) continue;
    const id = `${found.dev}:${found.ino}`;
    const name = names.get(id);
    if (name !== undefined) fail("INVALID_DATA", `${file}: is named twice${name === file ? "" : `, before as ${name}`}`);
    names.set(id, file);
  }
}

/** Chunks of a source text; `end` marks the last chunk of a source, `continues` one that is itself cut off from what follows. */
interface Chunk {
  readonly text: string;
  readonly end: boolean;
  readonly continues?: boolean;
}

async function* readText(file: string): AsyncGenerator<Chunk> {
  for await (const text of decode(file)) yield { text, end: false };
  yield { text: "", end: true };
}

async function* readRecords(file: string, fields: readonly string[]): AsyncGenerator<Chunk> {
  let rest = ""; // grows by whole chunks, which are put together once, when the line ends: only the new chunk is split
  let line = 0;
  for await (const text of decode(file)) {
    const lines = text.split("\n");
    lines[0] = rest + lines[0];
    if (lines[0].length > longestLine) fail("INVALID_DATA", `${file}:${line + 1}: the line has more than ${longestLine} characters`);
    rest = lines.pop() ?? "";
    for (const record of lines) {
      line++;
      if (record.trim() !== "") yield readRecord(record, fields, file, line);
    }
  }
  if (rest.trim() !== "") yield readRecord(rest, fields, file, line + 1);
}

function readRecord(line: string, fields: readonly string[], file: string, number: number): Chunk {
  const value = parseJson(line, `${file}:${number}`);
  if (typeof value === "string") return { text: value, end: true };
  const place = `${file}:${number}`;
  if (typeof value !== "object" || value === null || Array.isArray(value))
    fail("INVALID_DATA", `${place}: expected an object or a text, this is ${kindOf(value)}`);
  const record = value as Record<string, unknown>;
  const parts = fields.map((field) => {
    const part = record[field];
    if (typeof part === "string") return part;
    const found =
      part === undefined
        ? `the record has ${Object.keys(record).join(", ") || "no fields"}; choose with the option fields`
        : `this is ${kindOf(part)}`;
    return fail("INVALID_DATA", `${place}: expected a text in field "${field}", ${found}`);
  });
  return { text: parts.join("\n"), end: true, continues: record.continues === true };
}

function kindOf(value: unknown): string {
  if (value === null) return "null";
  if (Array.isArray(value)) return "a list";
  return typeof value === "object" ? "an object" : `a ${typeof value}`;
}

async function* decode(file: string): AsyncGenerator<string> {
  const decoder = new TextDecoder("utf-8", { fatal: true });
  try {
    for await (const bytes of readBytes(file)) yield decoder.decode(bytes, { stream: true });
    yield decoder.decode();
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === "ERR_ENCODING_INVALID_ENCODED_DATA") fail("INVALID_DATA", `${file}:${await faultyLine(file)}: is not UTF-8 text`, cause);
    throw cause;
  }
}

/**
 * The bytes of a file that can be read again.
 *
 * @throws INVALID_DATA where there is none
 */
export async function* readBytes(file: string): AsyncGenerator<Buffer> {
  try {
    const found = await stat(file);
    if (!found.isFile() && !found.isDirectory()) fail("INVALID_DATA", `${file}: is no regular file; write it to one, for it is read twice`);
    for await (const bytes of createReadStream(file, { highWaterMark: 1 << 20 })) yield bytes as Buffer;
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === "ENOENT") fail("INVALID_DATA", `${file}: no such file`, cause);
    if (code === "EISDIR") fail("INVALID_DATA", `${file}: is a folder; name the files`, cause);
    throw cause;
  }
}

/** The first line that is not UTF-8, of a file that has one: no character has a newline within it. */
async function faultyLine(file: string): Promise<number> {
  const decoder = new TextDecoder("utf-8", { fatal: true });
  let line = 1;
  for await (const chunk of createReadStream(file, { highWaterMark: 1 << 20 })) {
    const bytes = chunk as Buffer;
    for (let begin = 0, end = 0; begin < bytes.length; begin = end) {
      end = bytes.indexOf("\n", begin) + 1 || bytes.length;
      try {
        decoder.decode(bytes.subarray(begin, end), { stream: true });
      } catch {
        return line;
      }
      if (bytes[end - 1] === 10) line++;
    }
  }
  return line;
}

async function* cut(chunks: AsyncIterable<Chunk>, maxLength: number): AsyncGenerator<Document> {
  let text = "";
  for await (const chunk of chunks) {
    text += chunk.text;
    while (text.length > maxLength) {
      const at = cutPosition(text, maxLength);
      yield { text: text.slice(0, at), complete: false };
      text = text.slice(at);
    }
    if (chunk.end) {
      if (text !== "") yield { text, complete: !chunk.continues };
      text = "";
    }
  }
}

/** Cuts about this share, at most half, off the end of a document: another one, for evaluation. */
export function cutTail({ text, complete }: Document, share: number): Document[] {
  const at = cutPosition(text, Math.floor(text.length * (1 - share)), text.length * (1 - 1.5 * share));
  return [
    { text: text.slice(0, at), complete: false },
    { text: text.slice(at), complete },
  ];
}

/** After the last paragraph, else line, else word, between these lengths; else at the larger, but not inside a surrogate pair. */
function cutPosition(text: string, maxLength: number, minLength = maxLength / 2): number {
  for (const separator of ["\n\n", "\n", " "]) {
    const at = text.lastIndexOf(separator, maxLength - separator.length);
    if (at >= minLength) return at + separator.length;
  }
  const last = text.charCodeAt(maxLength - 1);
  return last >= 0xd800 && last < 0xdc00 ? maxLength - 1 : maxLength;
}
