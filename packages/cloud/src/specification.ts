import { z } from "zod";
import { Cluster } from "./cluster.js";
import { check } from "./errors.js";
import { Deployment, Job } from "./workload.js";

/** Anything that can be planned, told apart by `kind`. */
export const Specification = z.discriminatedUnion("kind", [Cluster, Job, Deployment], 'expected "cluster", "job" or "deployment"');
export type Specification = z.infer<typeof Specification>;

/**
 * Checks a cluster, job or deployment and fills in its defaults.
 * Throws SPECIFICATION_INVALID: one line with every fault, each with its path.
 *
 * @example parseSpecification(JSON.parse(await readFile("cluster.json", "utf8")));
 */
export function parseSpecification(value: unknown): Specification {
  const kind = (value as { kind?: unknown } | null | undefined)?.kind;
  return check(Specification, value, typeof kind === "string" ? kind : "specification");
}
