import { isZayaError } from "@zaya/kernels";
import type { Command } from "commander";
import { StoppedError, stoppedCode } from "../../terminal/src/interrupt.js";
import { withFlags } from "./names.js";

/** What the program's exit codes mean. */
export const exitCode = { done: 0, failed: 1, badInput: 2, blocked: 3, partial: stoppedCode, locked: 5 } as const;

const codes: Readonly<Record<string, number>> = {
  RUN_LOCKED: exitCode.locked,
  CHECKPOINT_LOCKED: exitCode.locked,
  NATIVE_UNAVAILABLE: exitCode.blocked,
  LOSS_NOT_FINITE: exitCode.failed,
  SAVE_FAILED: exitCode.failed,
  KERNEL_FAILED: exitCode.failed,
  DISPOSED: exitCode.failed,
  GUARD_OVERWRITTEN: exitCode.failed,
};

/** Problems of the file system that are the caller's to solve. */
const inputProblems = new Set(["ENOENT", "EACCES", "EPERM", "ENOTDIR", "EISDIR", "EROFS", "EEXIST", "ENOSPC"]);

/** A mistake of the caller, told in one line. */
export class InputError extends Error {}

/**
 * One line for a person, with the flags of `command` for the names of options, and the exit code. Errors of the packages come from what was
 * asked, unless listed otherwise.
 */
export function describeError(error: unknown, command?: Command): { readonly line: string; readonly code: number } {
  if (isZayaError(error)) {
    const message = command ? withFlags(error, command) : error.message;
    return { line: message.replaceAll("\n", " "), code: codes[error.code] ?? exitCode.badInput };
  }
  if (error instanceof InputError) return { line: error.message, code: exitCode.badInput };
  if (error instanceof StoppedError) return { line: error.message, code: exitCode.partial };
  if (error instanceof Error) {
    const { code, syscall, path } = error as NodeJS.ErrnoException;
    const isFile = code === "EEXIST" && syscall === "mkdir";
    const isFull = code === "ENOSPC" && path === undefined;
    const full = "no space is left on the disk; free some and run the same command again";
    const line = isFile ? `${path} is a file; choose another folder` : isFull ? full : error.message;
    return { line, code: code !== undefined && inputProblems.has(code) ? exitCode.badInput : exitCode.failed };
  }
  return { line: String(error), code: exitCode.failed };
}
