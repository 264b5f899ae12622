// Real text that every checkout has: the TypeScript declaration files under node_modules, in an order that depends on their names alone.
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";

const largestFile = 256 * 1024; // so that no single generated file is most of the corpus

/** Declaration files of packages in this folder, without those inside nested node_modules (other versions of the same text). */
function* declarationFiles(folder) {
  const entries = readdirSync(folder, { withFileTypes: true }).sort((a, b) => (a.name < b.name ? -1 : 1));
  for (const entry of entries) {
    const path = join(folder, entry.name);
    if (entry.isDirectory() && entry.name !== "node_modules" && !entry.name.startsWith(".")) yield* declarationFiles(path);
    else if (entry.isFile() && entry.name.endsWith(".d.ts") && statSync(path).size <= largestFile) yield path;
  }
}

/** Texts of distinct declaration files, `cap` bytes at most. */
export function declarations(modules, { cap = 16e6 } = {}) {
  const seen = new Set();
  const texts = [];
  let bytes = 0;
  for (const path of declarationFiles(modules)) {
    const text = readFileSync(path, "utf8");
    const digest = createHash("sha256").update(text).digest("hex");
    if (text.length < 200 || !text.isWellFormed() || text.includes("\uFFFD") || seen.has(digest)) continue;
    seen.add(digest);
    // Packages come in alphabetical order; sorting by digest spreads them evenly over the training and the held-out part.
    texts.push({ digest, text });
    bytes += Buffer.byteLength(text);
  }
  texts.sort((a, b) => (a.digest < b.digest ? -1 : 1));
  const chosen = [];
  for (const { text } of texts) {
    if (bytes <= 0 || cap <= 0) break;
    cap -= Buffer.byteLength(text);
    chosen.push(text);
  }
  return chosen;
}

/**
 * The texts of given files: records of a .jsonl file, any other file cut into pieces of about 16 kB at line ends.
 * Throws an error of one line, naming the file, where there is none.
 */
export function textsOf(files) {
  return files.flatMap((file) => {
    if (!existsSync(file)) throw new Error(`${file} does not exist`);
    if (statSync(file).isDirectory()) throw new Error(`${file} is a folder; name the files`);
    const content = readFileSync(file, "utf8");
    if (file.endsWith(".jsonl")) {
      const lines = content.split("\n").map((line, i) => ({ line, place: `${file}:${i + 1}` }));
      return lines.filter(({ line }) => line.trim() !== "").map(({ line, place }) => textOf(line, place));
    }
    const pieces = [];
    for (let begin = 0; begin < content.length; ) {
      const newline = content.indexOf("\n", begin + 16384);
      const end = newline < 0 ? content.length : newline + 1;
      pieces.push(content.slice(begin, end));
      begin = end;
    }
    return pieces;
  });
}

function textOf(line, place) {
  let record;
  try {
    record = JSON.parse(line);
  } catch (error) {
    throw new Error(`${place}: not JSON (${error.message})`, { cause: error });
  }
  const text = typeof record === "string" ? record : record?.text;
  if (typeof text !== "string") throw new Error(`${place}: expected a text, or an object with one in field "text"`);
  return text;
}

/** Every twentieth text, but 200 kB at most and one at least, is held out; the rest is for training. */
export function split(texts) {
  const training = [];
  const heldOut = [];
  let bytes = 0;
  texts.forEach((text, i) => {
    const size = Buffer.byteLength(text);
    if (i % 20 === 10 % Math.max(1, texts.length) && bytes + size <= 200e3) {
      heldOut.push(text);
      bytes += size;
    } else training.push(text);
  });
  return { training, heldOut };
}
