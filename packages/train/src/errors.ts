import { ZayaError } from "@zaya/kernels";

/** Stable codes of the errors this package throws. */
export type TrainErrorCode =
  | "INVALID_OPTIONS"
  | "INVALID_DATA"
  | "NOT_A_RUN"
  | "RUN_EXISTS"
  | "RUN_LOCKED"
  | "RUN_MISMATCH"
  | "CHECKPOINT_DAMAGED"
  | "FORMAT_UNSUPPORTED"
  | "LOSS_NOT_FINITE"
  | "SAVE_FAILED";

/** Throws what this package throws; the code is checked against the list above. */
export function fail(code: TrainErrorCode, message: string, cause?: unknown): never {
  throw new ZayaError(code, message, cause === undefined ? undefined : { cause });
}
