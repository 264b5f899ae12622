import { ZayaError } from "@zaya/kernels";

/**
 * Refuses an option that there is none of. JavaScript lets a misspelt name pass, and a server would run without its key.
 *
 * @throws INVALID_ARGUMENT naming it
 */
export function expectOptions<T extends object>(options: T, known: Readonly<Record<keyof T, true>>): void {
  for (const name of Object.keys(options))
    if (!Object.hasOwn(known, name)) throw new ZayaError("INVALID_ARGUMENT", `there is no option ${name}`);
}

/**
 * Types of the matrices and of cached keys and values, as options name them.
 *
 * @throws INVALID_ARGUMENT naming the option
 */
export function expectTypes({
  dtype,
  cacheDtype,
}: {
  readonly dtype?: string | undefined;
  readonly cacheDtype?: string | undefined;
}): void {
  const refuse = (name: string, types: string, value: unknown) => {
    throw new ZayaError("INVALID_ARGUMENT", `${name} must be ${types}, received ${value}`);
  };
  if (dtype !== undefined && !["float32", "bfloat16"].includes(dtype)) refuse("dtype", "float32 or bfloat16", dtype);
  if (cacheDtype !== undefined && !["float32", "bfloat16", "int8"].includes(cacheDtype))
    refuse("cacheDtype", "float32, bfloat16 or int8", cacheDtype);
}
