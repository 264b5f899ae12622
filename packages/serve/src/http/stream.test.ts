import { EventEmitter } from "node:events";
import type { FastifyReply } from "fastify";
import { expect, test, vi } from "vitest";
import { disconnectSignal } from "./stream.js";

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
