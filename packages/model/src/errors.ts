import { ZayaError } from "@zaya/kernels";

/** Stable codes of the errors about configurations, checkpoints and tokenizers. */
export type ModelErrorCode =
  | "CONFIG_INVALID"
  | "CHECKPOINT_INVALID"
  | "CHECKPOINT_EXISTS"
  | "CHECKPOINT_LOCKED"
  | "DISK_FULL"
  | "TOKENIZER_INVALID"
  | "CHAT_TEMPLATE_MISSING"
  | "CHAT_TEMPLATE_FAILED"
  | "INVALID_ARGUMENT"
  | "DISPOSED";

/** Throws what this package throws about configurations and checkpoints: one clear line, without a trailing full stop. */
export function fail(code: ModelErrorCode, message: string, cause?: unknown): never {
  throw new ZayaError(code, message, cause === undefined ? undefined : { cause });
}

/** @throws INVALID_ARGUMENT unless a value is a whole number of at least `least` */
export function expectWholeNumber(name: string, value: number, least: number): void {
  if (!Number.isSafeInteger(value) || value < least)
    fail(
      "INVALID_ARGUMENT",
      `${name} must be a whole number ≥ ${least}, received ${typeof value === "string" ? JSON.stringify(value) : value}`,
    );
}
