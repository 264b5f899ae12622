import { isZayaError } from "@zaya/kernels";
import { StoppedError, stoppedCode } from "../../terminal/src/interrupt.js";

/** What the program's exit codes mean; README.md lists them. */
export const exitCodes = { done: 0, failed: 1, badInput: 2, blocked: 3, partial: stoppedCode, locked: 5 } as const;

const badInput = new Set([
  "CHECKPOINT_INVALID",
  "CHECKPOINT_EXISTS",
  "CONFIG_INVALID",
  "TOKENIZER_INVALID",
  "INVALID_ARGUMENT",
  "INVALID_REQUEST",
  "CONTEXT_LENGTH_EXCEEDED",
  "CHAT_TEMPLATE_MISSING",
  "CHAT_TEMPLATE_FAILED",
  "NON_FINITE_LOGITS",
  "MODEL_NOT_FOUND",
  "MODEL_GATED",
  "HUB_UNREACHABLE",
  "HUB_FAILED",
  "DISK_FULL",
  "CHECKSUM_MISMATCH",
  // Of the file system.
  "EACCES",
  "ENOENT",
  "EPERM",
  "ENOTDIR",
  "EISDIR",
  "EROFS",
  "EEXIST",
  "ENOSPC",
]);

/** Another process works on the same files. */
const locked = new Set(["DOWNLOAD_LOCKED", "CHECKPOINT_LOCKED"]);

/** A mistake of the caller, told in one line. */
export class InputError extends Error {}

/** The one line and the exit code for what was thrown. */
export function describeFailure(error: unknown): { readonly line: string; readonly code: number } {
  const { code, syscall, path } = (error ?? {}) as NodeJS.ErrnoException;
  const isFile = code === "EEXIST" && syscall === "mkdir";
  const message = isFile ? `${path} is a file; choose another folder` : error instanceof Error ? error.message : String(error);
  if (error instanceof InputError || (typeof code === "string" && badInput.has(code))) return { line: message, code: exitCodes.badInput };
  if (error instanceof StoppedError) return { line: message, code: exitCodes.partial };
  if (typeof code === "string" && locked.has(code)) return { line: message, code: exitCodes.locked };
  if (code === "NATIVE_UNAVAILABLE") return { line: message, code: exitCodes.blocked };
  return { line: isZayaError(error) || !(error instanceof Error) ? message : (error.stack ?? message), code: exitCodes.failed };
}
