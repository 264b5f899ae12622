import { execFileSync } from "node:child_process";
import { link, mkdtemp, rm, symlink, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeAll, expect, test } from "vitest";
import { cutTail, type Document, readDocuments } from "./documents.js";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "documents-"));
});

async function read(
  name: string,
  content: string | Uint8Array,
  options: Partial<Parameters<typeof readDocuments>[1]> = {},
): Promise<Document[]> {
  await writeFile(join(folder, name), content);
  const documents: Document[] = [];
  for await (const document of readDocuments([join(folder, name)], { fields: ["text"], maxLength: 1000, ...options }))
    documents.push(document);
  return documents;
}

test("reads a text file as one document", async () => {
  expect(await read("a.txt", "Once upon\na time.")).toEqual([{ text: "Once upon\na time.", complete: true }]);
});

test("reads no document from an empty file", async () => {
  expect(await read("empty.txt", "")).toEqual([]);
});

test("cuts a long text at paragraphs and loses nothing", async () => {
  const text = Array.from({ length: 200 }, (_, i) => `Paragraph ${i} with some words.\nIts second line.\n\n`).join("");
  const documents = await read("long.txt", text);
  expect(documents.map((document) => document.text).join("")).toBe(text);
  expect(documents.every((document) => document.text.length <= 1000)).toBe(true);
  expect(documents.slice(0, -1).every((document) => document.text.endsWith("\n\n") && !document.complete)).toBe(true);
  expect(documents.at(-1)?.complete).toBe(true);
});

test.each([
  ["a paragraph", `${"x".repeat(80)}\n\n${"y z\n".repeat(4)}`, 0.15, 82],
  ["a line", `${"x".repeat(82)}\n${"y z ".repeat(4)}`, 0.15, 83],
  ["a word", `${"x".repeat(82)} ${"y".repeat(16)}`, 0.15, 83],
  ["nothing that ends before", `x\n\n${"y".repeat(97)}`, 0.15, 85],
  ["a pair of surrogates", "😀".repeat(50), 0.15, 84],
  ["half of it", "x".repeat(100), 0.5, 50],
])("cuts a share off the end of a text after %s", (_what, text, share, at) => {
  expect(cutTail({ text, complete: true }, share)).toEqual([
    { text: text.slice(0, at), complete: false },
    { text: text.slice(at), complete: true },
  ]);
});

test("cuts no character in half where there is no space", async () => {
  const documents = await read("long.txt", "x".repeat(9) + "😀".repeat(100), { maxLength: 20 });
  expect(documents.every(({ text }) => !text.includes("\ufffd") && Buffer.from(text).toString() === text)).toBe(true);
  expect(documents.map(({ text }) => text).join("")).toBe("x".repeat(9) + "😀".repeat(100));
});

test("reads the chosen fields of JSONL records and plain strings", async () => {
  const lines = [
    { question: "1+1?", answer: "2" },
    { question: "1+2?", answer: "3", continues: true },
  ]
    .map((record) => JSON.stringify(record))
    .join("\n");
  expect(await read("a.jsonl", `${lines}\n\n"a string"`, { fields: ["question", "answer"] })).toEqual([
    { text: "1+1?\n2", complete: true },
    { text: "1+2?\n3", complete: false },
    { text: "a string", complete: true },
  ]);
});

test.each(["a.ndjson", "a.JSONL", "a.NdJson"])("reads %s as JSON lines", async (name) => {
  expect((await read(name, '{"text": "a"}\n"b"')).map(({ text }) => text)).toEqual(["a", "b"]);
});

test.each([
  ["bad.jsonl", '{"text": "a"}\n{"text": ', /bad\.jsonl:2: not JSON/],
  ["field.jsonl", '{"body": "a"}', /field\.jsonl:1: expected a text in field "text", the record has body; choose with the option fields/],
  ["empty.jsonl", "{}", /empty\.jsonl:1: expected a text in field "text", the record has no fields/],
  ["null.jsonl", '{"text": null}', /null\.jsonl:1: expected a text in field "text", this is null$/],
  ["list.jsonl", '{"text": ["a"]}', /list\.jsonl:1: expected a text in field "text", this is a list/],
  ["nothing.jsonl", "null", /nothing\.jsonl:1: expected an object or a text, this is null/],
  ["number.jsonl", "5", /number\.jsonl:1: expected an object or a text, this is a number/],
  ["latin.txt", Buffer.from("one\ntwo\ncaf\xe9\nfour", "latin1"), /latin\.txt:3: is not UTF-8 text/],
  ["latin.jsonl", Buffer.from('"one"\n"caf\xe9"', "latin1"), /latin\.jsonl:2: is not UTF-8 text/],
  ["half.txt", Buffer.from("one\né").subarray(0, -1), /half\.txt:2: is not UTF-8 text/],
  ["far.txt", Buffer.concat([Buffer.from("€\n".repeat(2 ** 19)), Buffer.from([0xe9])]), /far\.txt:524289: is not UTF-8 text/],
])("refuses %s in one line", async (name, content, message) => {
  await expect(read(name, content)).rejects.toThrow(message);
});

test("reads one long line about as fast as many short ones", async () => {
  const millisecondsOf = async (lines: number) => {
    const line = JSON.stringify("x".repeat((48 << 20) / lines));
    await writeFile(join(folder, "long.jsonl"), new Array(lines).fill(line).join("\n"));
    const started = performance.now();
    let length = 0;
    for await (const { text } of readDocuments([join(folder, "long.jsonl")], { fields: ["text"], maxLength: 2 ** 30 }))
      length += text.length;
    expect(length).toBe(48 << 20);
    return performance.now() - started;
  };
  const short = await millisecondsOf(96);
  // Eight times as long where each chunk is put together with all before it and split again.
  expect(await millisecondsOf(1)).toBeLessThan(4 * short);
});

test("refuses a line that is too long, with its number", async () => {
  const path = join(folder, "line.jsonl");
  await writeFile(path, '"a"\n');
  await truncate(path, 2 ** 28 + 5);
  const reading = readDocuments([path], { fields: ["text"], maxLength: 10 });
  expect((await reading.next()).value).toEqual({ text: "a", complete: true });
  await expect(reading.next()).rejects.toMatchObject({
    code: "INVALID_DATA",
    message: `${path}:2: the line has more than 268435456 characters`,
  });
  await rm(path);
});

test("refuses what can be read only once, and follows a link", async () => {
  const [pipe, link] = [join(folder, "pipe"), join(folder, "link.txt")];
  execFileSync("mkfifo", [pipe]);
  await expect(readDocuments([pipe], { fields: ["text"], maxLength: 10 }).next()).rejects.toMatchObject({
    code: "INVALID_DATA",
    message: `${pipe}: is no regular file; write it to one, for it is read twice`,
  });
  await writeFile(join(folder, "file.txt"), "text");
  await symlink("file.txt", link);
  const reading = readDocuments([link], { fields: ["text"], maxLength: 10 });
  expect((await reading.next()).value).toEqual({ text: "text", complete: true });
});

test("names a file that is not there", async () => {
  const reading = readDocuments([join(folder, "none.txt")], { fields: ["text"], maxLength: 10 });
  await expect(reading.next()).rejects.toThrow(/none\.txt: no such file/);
});

test("refuses a file that is named twice, by whatever name", async () => {
  const [path, soft, hard] = ["twice.txt", "soft.txt", "hard.txt"].map((name) => join(folder, name)) as [string, string, string];
  await writeFile(path, "text");
  await symlink("twice.txt", soft);
  await link(path, hard);
  const reading = (...files: string[]) => readDocuments(files, { fields: ["text"], maxLength: 10 }).next();
  await expect(reading(path, path)).rejects.toMatchObject({ code: "INVALID_DATA", message: `${path}: is named twice` });
  for (const name of [soft, hard, `${folder}/./twice.txt`])
    await expect(reading(path, name)).rejects.toThrow(`${name}: is named twice, before as ${path}`);
});
