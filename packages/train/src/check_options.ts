import { inspect } from "node:util";
import type { z } from "zod";
import { fail } from "./errors.js";

/**
 * Parses options, or what `refuse` is told of: one line that names every one that is wrong, what was expected and what was received.
 *
 * @throws INVALID_OPTIONS with that line, unless `refuse` throws something else
 */
export function checkOptions<T extends z.ZodType>(
  schema: T,
  options: unknown,
  refuse = (problems: string): never => fail("INVALID_OPTIONS", problems),
): z.output<T> {
  const parsed = schema.safeParse(options, { error: describeProblem });
  return parsed.success ? parsed.data : refuse(describeIssues(parsed.error));
}

/** Of a value that may be one of several things, what is wrong with it as the last of them. */
function describeIssues({ issues }: z.ZodError): string {
  return issues
    .flatMap((issue) => {
      const last = issue.code === "invalid_union" ? issue.errors.at(-1) : undefined;
      return last?.map((inner) => ({ ...inner, path: [...issue.path, ...inner.path] })) ?? [issue];
    })
    .map(({ path, message }) => `${path.length > 0 ? `${path.join(".")}: ` : ""}${message}`)
    .join("; ");
}

/** What this package says in place of the schema library, whose words stay for what no option comes to. */
function describeProblem(issue: z.core.$ZodRawIssue): string | undefined {
  if (issue.code === "unrecognized_keys") return `there is no option ${issue.keys.join(", ")}`;
  if (issue.code === "invalid_union" && Array.isArray(issue.options)) return `expected ${issue.options.join(" or ")}`;
  const expected = expectation(issue);
  return expected && `expected ${expected}, received ${show(issue.input)}`;
}

const types: Readonly<Record<string, string>> = {
  number: "a number",
  int: "a whole number",
  string: "a text",
  boolean: "true or false",
  array: "a list",
  object: "an object",
};

function expectation(issue: z.core.$ZodRawIssue): string | undefined {
  const isNumber = issue.origin === "number" || issue.origin === "int";
  if (issue.code === "too_small" && isNumber)
    return issue.inclusive ? `a number from ${issue.minimum} on` : `a number above ${issue.minimum}`;
  if (issue.code === "too_big" && isNumber) return `a number ${issue.inclusive ? "up to" : "below"} ${issue.maximum}`;
  if (issue.code === "invalid_value") return issue.values.join(" or ");
  if (issue.code === "invalid_type") return types[issue.expected] ?? issue.expected;
  return undefined;
}

function show(value: unknown): string {
  if (value === undefined) return "nothing";
  return typeof value === "string" ? JSON.stringify(value) : inspect(value, { depth: 0, breakLength: Number.POSITIVE_INFINITY });
}
