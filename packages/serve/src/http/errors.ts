import { STATUS_CODES } from "node:http";
import type { Socket } from "node:net";
import { isZayaError } from "@zaya/kernels";
import type { FastifyError } from "fastify";
import { hasZodFastifySchemaValidationErrors } from "fastify-type-provider-zod";

/** OpenAI's error body; `param` and `code` are always there. */
export interface ErrorBody {
  readonly error: { readonly message: string; readonly type: string; readonly param: string | null; readonly code: string | null };
}

/** An error with its status, thrown by routes. */
export class HttpError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly param: string | null = null,
  ) {
    super(message);
    this.name = "HttpError";
  }
}

export interface ErrorReply {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: ErrorBody;
}

/** Status, headers and body for anything that was thrown. Faults of this side say no more than their message. */
export function errorReply(error: unknown): ErrorReply {
  if (error instanceof HttpError) return reply(error.status, error.message, error.code, error.param);
  if (isZayaError(error)) {
    switch (error.code) {
      case "CONTEXT_LENGTH_EXCEEDED":
      case "INVALID_REQUEST":
      case "CHAT_TEMPLATE_MISSING":
      case "CHAT_TEMPLATE_FAILED":
        return reply(400, error.message, error.code.toLowerCase(), fieldOf(error.message));
      case "QUEUE_FULL":
        return reply(429, error.message, "queue_full");
      case "DRAINING":
      case "DISPOSED":
        return reply(503, error.message, "unavailable");
      default:
        return reply(500, error.message, error.code.toLowerCase());
    }
  }
  if (hasZodFastifySchemaValidationErrors(error)) {
    const issue = error.validation[0];
    const keys = issue?.keyword === "unrecognized_keys" ? (issue.params as { keys?: string[] }).keys : undefined;
    if (keys?.[0] !== undefined)
      return reply(400, `unknown parameter: ${namesOf(keys)}`, "unknown_parameter", keys[0].slice(0, maxNameLength));
    const param = issue?.instancePath.slice(1).replaceAll("/", ".") || null;
    return reply(400, `${param ?? "body"}: ${issue?.message}`, "invalid_value", param);
  }
  const { statusCode, code = "", message = "internal error" } = error as Partial<FastifyError>;
  if (error instanceof SyntaxError || code.endsWith("_JSON_BODY"))
    return reply(400, `the body is not valid JSON: ${message}`, "invalid_json");
  if (code === "FST_ERR_CTP_INVALID_MEDIA_TYPE")
    return reply(415, "the body has to be JSON; send it with `content-type: application/json`", "invalid_media_type");
  if (statusCode !== undefined && statusCode < 500)
    return reply(statusCode, message, code.replace(/^FST_ERR_(CTP_)?/, "").toLowerCase() || null);
  return reply(500, message, "internal_error");
}

/** Whether what was thrown is a fault of this side, to be logged: neither what a client did nor the end of the engine. */
export function isFault(error: unknown): boolean {
  return errorReply(error).status === 500;
}

/** Answers what was no request yet, in the shape of all errors: headers that are too large, or no HTTP. */
export function answerClientError({ code }: NodeJS.ErrnoException, socket: Socket): void {
  if (code === "ECONNRESET" || socket.destroyed) return;
  const [status, message] =
    code === "HPE_HEADER_OVERFLOW"
      ? [431, "the headers are too large"]
      : code === "ERR_HTTP_REQUEST_TIMEOUT"
        ? [408, "the request did not come in time"]
        : [400, "this is no HTTP request"];
  const text = JSON.stringify(reply(status, message, code?.toLowerCase() ?? null).body);
  const headers = `Content-Type: application/json\r\nContent-Length: ${Buffer.byteLength(text)}\r\nConnection: close`;
  if (socket.writable) socket.write(`HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\n${headers}\r\n\r\n${text}`);
  socket.destroy();
}

function reply(status: number, message: string, code: string | null, param: string | null = null): ErrorReply {
  const type = types[status] ?? (status >= 500 ? "server_error" : "invalid_request_error");
  return { status, headers: headersOf[status] ?? {}, body: { error: { message, type, param, code } } };
}

const types: Readonly<Record<number, string>> = {
  401: "authentication_error",
  403: "permission_error",
  404: "not_found_error",
  429: "rate_limit_error",
  503: "unavailable_error",
};
const later = { "retry-after": "5", "retry-after-ms": "5000" };
const headersOf: Readonly<Record<number, Readonly<Record<string, string>>>> = {
  401: { "www-authenticate": "Bearer" },
  429: later,
  503: later,
};

/** Most names of an error's message, and their greatest length: who sends a million gets no message of a million. */
const maxNames = 5;
const maxNameLength = 100;

function namesOf(keys: readonly string[]): string {
  const names = keys.slice(0, maxNames).map((key) => key.slice(0, maxNameLength));
  return names.join(", ") + (keys.length > maxNames ? ` and ${keys.length - maxNames} more` : "");
}

/** "prompt: an empty prompt …" is about `prompt`. */
function fieldOf(message: string): string | null {
  return /^(\w+): /.exec(message)?.[1] ?? null;
}
