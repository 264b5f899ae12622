const marker = Symbol.for("zaya.error");

/** Stable codes of the errors this package throws. */
export type KernelsErrorCode =
  | "NATIVE_UNAVAILABLE"
  | "SHAPE_MISMATCH"
  | "INVALID_ARGUMENT"
  | "MISSING_INPUT"
  | "MISSING_TENSOR"
  | "UNSUPPORTED_OPERATION"
  | "KERNEL_FAILED"
  | "GUARD_OVERWRITTEN"
  | "DISPOSED"
  | "FORMAT_UNSUPPORTED";

/** An error of the ZAYA packages: `code` is stable, `message` says what was expected, what came and what to do. */
export class ZayaError extends Error {
  readonly code: string;

  constructor(code: string, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = "ZayaError";
    this.code = code;
    Object.defineProperty(this, marker, { value: true });
  }
}

/** Whether a thrown value comes from any ZAYA package, also from another copy of it. */
export function isZayaError(value: unknown): value is ZayaError {
  return typeof value === "object" && value !== null && (value as Record<symbol, unknown>)[marker] === true;
}

/** Throws what kernels throw; the code is checked against the list above. */
export function fail(code: KernelsErrorCode, message: string, cause?: unknown): never {
  throw new ZayaError(code, message, cause === undefined ? undefined : { cause });
}
