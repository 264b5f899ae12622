// What planning yields and applying consumes: everything that would change, what it needs and what it costs, before anything happens.

import type { Specification } from "./specification.js";

/** Kinds of resources of IBM Cloud that a plan can touch. */
export type ResourceKind =
  | "vpc"
  | "address-prefix"
  | "subnet"
  | "public-gateway"
  | "security-group"
  | "floating-ip"
  | "ssh-key"
  | "placement-group"
  | "cluster-network"
  | "cluster-network-subnet"
  | "cluster-network-interface"
  | "instance"
  | "bare-metal-server"
  | "volume"
  | "load-balancer"
  | "vpn-server"
  | "trusted-profile"
  | "bucket";

/** A resource by the name it has or will have; the interface has no idempotency key, so names are what makes a second run safe. */
export interface ResourceReference {
  readonly kind: ResourceKind;
  readonly name: string;
  /** Known once the resource exists. */
  readonly id?: string;
}

/** One step of a plan. `properties` is the body of the request, without secrets. */
export type Change =
  | { readonly action: "create"; readonly resource: ResourceReference; readonly properties: Readonly<Record<string, unknown>> }
  | {
      readonly action: "update";
      readonly resource: ResourceReference;
      readonly properties: Readonly<Record<string, unknown>>;
      readonly etag?: string;
    }
  | {
      readonly action: "replace";
      readonly resource: ResourceReference;
      readonly properties: Readonly<Record<string, unknown>>;
      readonly because: string;
    }
  | { readonly action: "delete"; readonly resource: ResourceReference; readonly loses: readonly string[] }
  | { readonly action: "keep"; readonly resource: ResourceReference };

/** A price, or the plain fact that nobody knows it: an unknown price fails a cost limit, it never counts as zero. */
export type Price =
  | { readonly known: true; readonly perHour: number; readonly currency: string; readonly source: string; readonly asOf: string }
  | { readonly known: false; readonly reason: string };

/** A quota of the account beside what the plan needs of it. */
export interface QuotaCheck {
  readonly quota: string;
  readonly limit: number;
  readonly used: number;
  readonly needed: number;
}

/** Something that stands in the way (`blocks`) or should be known first. */
export interface Finding {
  readonly code: "quota" | "permission" | "capacity" | "profile" | "image" | "fabric" | "price" | "ownership";
  readonly blocks: boolean;
  readonly message: string;
}

/** The result of planning: plain data that can be stored, shown, and applied as long as nothing has changed since. */
export interface Plan {
  readonly formatVersion: 1;
  readonly specification: Specification;
  /** SHA-256 of the specification and of the state it was planned against; applying another one is refused. */
  readonly fingerprint: string;
  readonly createdAt: string;
  /** What names were resolved to: image ids, zones, profiles. */
  readonly resolved: Readonly<Record<string, string>>;
  /** In the order of applying. */
  readonly changes: readonly Change[];
  readonly quotas: readonly QuotaCheck[];
  readonly findings: readonly Finding[];
  readonly price: Price;
}

/** Events of applying or destroying, ending in `apply-end`. */
export type PlanEvent =
  | { readonly type: "change-start"; readonly change: Change }
  | { readonly type: "change-end"; readonly change: Change; readonly id: string; readonly seconds: number }
  | { readonly type: "change-failed"; readonly change: Change; readonly code: string; readonly message: string; readonly trace?: string }
  | { readonly type: "apply-end"; readonly outcome: "done" | "partial" | "failed"; readonly remaining: readonly Change[] };
