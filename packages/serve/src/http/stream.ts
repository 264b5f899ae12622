import { setMaxListeners } from "node:events";
import type { FastifyReply } from "fastify";
import { errorReply, HttpError, isFault } from "./errors.js";

/** Time that a client may take nothing of what was sent, in milliseconds. */
const stallMilliseconds = 60_000;
/** Time between comments that keep an idle connection open, in milliseconds. */
const keepAliveInterval = 15_000;

/** A stream of server-sent events: unnamed `data:` frames of one JSON object each, ended by `data: [DONE]`. */
export interface EventStream {
  /** Resolves when there is room for more: what a client does not read is not made on and on. One that takes nothing for a minute or two is cut off. */
  send(data: object): Promise<void>;
  /** Ends with [DONE], or, where something was thrown, with a frame that carries the error; faults are logged. */
  end(error?: unknown): void;
}

/** Takes the response over and starts an event stream on it. */
export function openEventStream(reply: FastifyReply, stall = stallMilliseconds): EventStream {
  reply.hijack();
  const { raw } = reply;
  for (const [name, value] of Object.entries(reply.getHeaders())) if (value !== undefined) raw.setHeader(name, value);
  raw.writeHead(200, { "content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache", "x-accel-buffering": "no" });
  raw.flushHeaders();
  // Node starts the time anew while a write makes progress, however large; `drain` comes only when all is out.
  raw.setTimeout(stall, () => raw.destroy());
  const keepAlive = setInterval(() => raw.write(": keep-alive\n\n"), keepAliveInterval);
  keepAlive.unref();
  raw.once("close", () => clearInterval(keepAlive));
  /** Set while there is no room; one promise for all answers of the request. */
  let room: Promise<void> | null = null;
  const untilRoom = () =>
    new Promise<void>((resolve) => {
      const go = () => {
        raw.off("drain", go).off("close", go);
        room = null;
        resolve();
      };
      raw.on("drain", go).on("close", go);
    });
  return {
    async send(data) {
      if (raw.writableEnded || raw.destroyed) return;
      if (!raw.write(`data: ${JSON.stringify(data)}\n\n`)) room ??= untilRoom();
      await room;
    },
    end(error) {
      clearInterval(keepAlive);
      if (error !== undefined && isFault(error)) reply.log.error(error);
      if (raw.writableEnded || raw.destroyed) return;
      raw.end(error === undefined ? "data: [DONE]\n\n" : `data: ${JSON.stringify(errorReply(error).body)}\n\n`);
    },
  };
}

/** A signal that aborts when the client goes before its answer is complete. */
export function disconnectSignal(reply: FastifyReply): AbortController {
  const controller = new AbortController();
  setMaxListeners(0, controller.signal); // one for each answer
  const gone = () => {
    if (!reply.raw.writableFinished) controller.abort(new HttpError(499, "client_closed", "the client closed the connection"));
  };
  if (reply.raw.destroyed)
    gone(); // while its body was read
  else reply.raw.once("close", gone);
  return controller;
}
