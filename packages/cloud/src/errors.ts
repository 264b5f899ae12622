import type { z } from "zod";

/** Stable codes of the errors this package throws. */
export type CloudErrorCode = "SPECIFICATION_INVALID";

/** An error of this package; `code` is stable, and `isZayaError` of the other packages knows it by its marker. */
export class CloudError extends Error {
  readonly code: CloudErrorCode;

  constructor(code: CloudErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = "ZayaError";
    this.code = code;
    Object.defineProperty(this, Symbol.for("zaya.error"), { value: true });
  }
}

/** Checks a value against a schema. Throws SPECIFICATION_INVALID: one line with every fault, each with its path. */
export function check<T>(schema: z.ZodType<T>, value: unknown, what: string): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const faults = result.error.issues.map((issue) => {
    const message = issue.code === "invalid_key" ? issue.issues.map((inner) => inner.message).join(", ") : issue.message;
    return issue.path.length > 0 ? `${issue.path.join(".")}: ${message}` : message;
  });
  throw new CloudError("SPECIFICATION_INVALID", `${what}: ${faults.join("; ")}`.replaceAll("\n", " "), { cause: result.error });
}
