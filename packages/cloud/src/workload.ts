// What runs on a cluster: a job ends by itself, a deployment answers requests until it is taken down.

import { z } from "zod";
import { Cidr, Money, ResourceName, StorageUri } from "./names.js";

/** Words of the names of credentials, also within a name: AWS_SECRET_ACCESS_KEY, API_KEYS. */
const credential = /(SECRETS?|PASSWORDS?|PASSWD|TOKENS?|CREDENTIALS?|(API|PRIVATE|ACCESS)_?KEYS?)(_|$)|(^|_)(PASS|PAT)(_|$)/i;
/** Counts of tokens, and where a file with a credential lies. */
const harmless = /(^|_)(MAX|NUM)_(\w+_)?TOKENS$|_(FILE|PATH|DIR)$/i;

const common = {
  formatVersion: z.literal(1),
  name: ResourceName,
  /** The cluster's name. */
  cluster: ResourceName,
  /** Environment of the program. Credentials are not data: nodes get theirs from a trusted profile. */
  environment: z
    .record(
      z
        .string()
        .regex(/^[A-Za-z_]\w*$/, "expected the name of a variable")
        .refine((name) => !credential.test(name) || harmless.test(name), "looks like a credential, which is no part of a specification"),
      z.string(),
    )
    .default({}),
};

/** A run of training that reads from and writes to object storage. */
export const Job = z.strictObject({
  ...common,
  kind: z.literal("job"),
  /** Arguments of `zaya-train`, as on the command line. */
  arguments: z.array(z.string()).min(1),
  nodes: z.int().min(1),
  processesPerNode: z.int().min(1).max(16).default(8),
  /** Copied to the nodes' local disks before the start; shares are too slow for it. */
  data: z.array(StorageUri).default([]),
  /** Where checkpoints, metrics and logs go. */
  output: StorageUri,
  /** How often a failed or preempted run is resumed from its last checkpoint. */
  restarts: z.int().min(0).default(3),
  /** The run is stopped, with a checkpoint, before it passes either limit. */
  limit: z.strictObject({ hours: z.number().positive().optional(), cost: Money.optional() }).default({}),
});
export type Job = z.infer<typeof Job>;

/** A model served on one or more nodes behind one address. */
export const Deployment = z.strictObject({
  ...common,
  kind: z.literal("deployment"),
  checkpoint: StorageUri,
  dtype: z.enum(["float32", "bfloat16"]).default("bfloat16"),
  replicas: z.int().min(1).max(50).default(1),
  gpusPerReplica: z.int().min(1).max(8).default(1),
  port: z.int().min(1).max(65_535).default(8000),
  loadBalancer: z
    .strictObject({
      public: z.boolean().default(false),
      /** Who may connect. */
      from: z.array(Cidr).min(1),
      /** IBM's default of 50 s cuts token streams that pause. */
      idleTimeoutSeconds: z.int().min(50).max(7200).default(600),
    })
    .optional(),
});
export type Deployment = z.infer<typeof Deployment>;
