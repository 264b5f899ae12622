import { EventEmitter, once } from "node:events";
import { createServer, get, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import type { FastifyReply } from "fastify";
import { expect, test, vi } from "vitest";
import { disconnectSignal, openEventStream } from "./stream.js";

const replyWith = (state: { destroyed: boolean; writableFinished: boolean }) => {
  const raw = Object.assign(new EventEmitter(), state);
  return { raw, reply: { raw } as unknown as FastifyReply };
};

test("a client that goes before its answer is complete aborts it, one that goes afterwards does not", () => {
  for (const writableFinished of [false, true]) {
    const { raw, reply } = replyWith({ destroyed: false, writableFinished });
    const { signal } = disconnectSignal(reply);
    expect(signal.aborted).toBe(false);
    raw.emit("close");
    expect(signal.aborted).toBe(!writableFinished);
  }
});

test("as many answers as there are may listen to the signal, without a warning", () => {
  const warned = vi.spyOn(process, "emitWarning").mockReturnValue();
  const { signal } = disconnectSignal(replyWith({ destroyed: false, writableFinished: false }).reply);
  for (let i = 0; i < 20; i++) signal.addEventListener("abort", () => {});
  expect(warned).not.toHaveBeenCalled();
  warned.mockRestore();
});

test("a client that is gone already has its request aborted at once", () => {
  expect(disconnectSignal(replyWith({ destroyed: true, writableFinished: false }).reply).signal.aborted).toBe(true);
});

test("waits with more until the client has taken what was sent", async () => {
  const written: string[] = [];
  let full = true;
  const raw = Object.assign(new EventEmitter(), {
    destroyed: false,
    writableEnded: false,
    setHeader: () => {},
    writeHead: () => {},
    flushHeaders: () => {},
    setTimeout: () => {},
    write: (text: string) => written.push(text) > 0 && !full,
    end: (text: string) => void written.push(text),
  });
  const stream = openEventStream({ raw, hijack: () => {}, getHeaders: () => ({}) } as unknown as FastifyReply);
  let sent = 0;
  const sending = [1, 2].map((i) => stream.send({ i }).then(() => sent++));
  await new Promise((resolve) => setImmediate(resolve));
  expect([written.length, sent]).toEqual([2, 0]);
  full = false;
  raw.emit("drain");
  await Promise.all(sending);
  await stream.send({ i: 3 });
  full = true;
  const last = stream.send({ i: 4 });
  raw.destroyed = true;
  raw.emit("close");
  await last; // a client that has gone holds nobody up
  await stream.send({ i: 5 });
  expect(written.map((text) => JSON.parse(text.slice(6)).i)).toEqual([1, 2, 3, 4]);
});

test.each([
  { what: "cuts off a client that reads nothing", reads: false },
  { what: "does not cut off one that reads steadily, however long one event takes", reads: true },
])("$what", async ({ reads }) => {
  await using server = createServer((_, raw) => {
    const stream = openEventStream({ raw, hijack: () => {}, getHeaders: () => ({}) } as unknown as FastifyReply, 1000);
    void stream.send({ text: "x".repeat(2 ** 24) }).then(() => stream.end());
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const [closed, { port }] = [once(server, "request"), server.address() as AddressInfo];
  const response = await new Promise<IncomingMessage>((resolve) => get({ port }, resolve));
  const [, raw] = (await closed) as [IncomingMessage, NodeJS.EventEmitter];
  if (!reads) await once(raw, "close");
  let length = 0;
  const read = (async () => {
    for await (const chunk of response) {
      length += chunk.length;
      await new Promise((resolve) => setTimeout(resolve, 8));
    }
  })();
  if (reads) await read;
  else await expect(read).rejects.toThrow("aborted");
  expect(length > 2 ** 24).toBe(reads);
});
