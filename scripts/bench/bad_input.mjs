/** A mistake of the caller, which is told in one line and ends in exit code 2. */
export function badInput(message) {
  return Object.assign(new Error(message), { code: "BAD_INPUT" });
}
