import { PassThrough } from "node:stream";
import { expect, test } from "vitest";
import { openMessageReader } from "./message_reader.js";

/** A reader of a terminal at which `type` types. */
function openTerminal() {
  const input = new PassThrough();
  const output = new PassThrough();
  const reader = openMessageReader("You  ", input as unknown as NodeJS.ReadStream, output);
  return { reader, input, type: (text: string) => void input.write(text), shown: () => String(output.read()) };
}

const paste = (text: string) => `\x1b[200~${text}\x1b[201~`;

test("gives a line at a time, and those that came early in their order", async () => {
  const { reader, type } = openTerminal();
  type("the fox\rover\r");
  expect([await reader.next(), await reader.next()]).toEqual(["the fox", "over"]);
  const later = reader.next();
  type("the dog\r");
  expect(await later).toBe("the dog");
});

test("takes a paste of several lines as one message, which Enter ends", async () => {
  const { reader, type } = openTerminal();
  const message = reader.next();
  type(`look: ${paste("a\r  b\r\rc")}`);
  type(" and?\rnext\r");
  expect(await message).toBe("look: a\n  b\n\nc and?");
  expect(await reader.next()).toBe("next");
  type(`${paste("a\rb\r")}\r`);
  expect(await reader.next()).toBe("a\nb");
});

test.each([
  { what: "Ctrl-D", end: "\x04" },
  { what: "Ctrl-C", end: "half a line\x03" },
])("$what ends it, at once or after a message", async ({ end }) => {
  for (const before of [[], ["the fox"]]) {
    const { reader, type } = openTerminal();
    for (const line of before) {
      type(`${line}\r`);
      expect(await reader.next()).toBe(line);
    }
    type(end);
    expect([await reader.next(), await reader.next()]).toEqual([null, null]);
  }
});

test("an input that ends gives what was typed, then its end", async () => {
  const { reader, input } = openTerminal();
  input.end("the fox");
  expect([await reader.next(), await reader.next()]).toEqual(["the fox", null]);
});

test("tells the terminal to mark what is pasted, as long as it reads", () => {
  const { reader, shown } = openTerminal();
  expect(shown()).toBe("\x1b[?2004h");
  reader[Symbol.dispose]();
  expect(shown()).toBe("\x1b[?2004l");
});
