// A cluster: machines with GPUs, the network between them and the way in. Source of the rules: IBM's public documentation up to 2026-08.

import { z } from "zod";
import { addressesOf, Cidr, Crn, PrivateCidr, Region, ResourceName } from "./names.js";

/** An operating system image by name; the plan pins the id it finds. Stock images other than RHEL AI come without ROCm, which bootstrap installs. */
const image = z.string().min(1).describe("for example ibm-ubuntu-24-04-amd64-1");

/** Virtual servers. They are billed by the second; stopping one erases its local disks. */
const virtualNodes = z
  .strictObject({
    source: z.literal("virtual"),
    profile: z.string().min(1).describe("for example gx3d-208x1792x8mi300x; visible to approved accounts only"),
    count: z.int().min(1).max(1024),
    image,
    /** Spot servers can be taken back with 30 seconds' notice. */
    availability: z.enum(["standard", "spot"]).default("standard"),
    onPreemption: z.enum(["stop", "delete"]).optional(),
    /** An active reservation; one is never made or activated here, it is a spend of years. */
    reservation: z.string().min(1).optional(),
    /** Keeps replicas on different hosts (at most 12) or power feeds (at most 4). There is no placement for nearness. */
    spread: z.enum(["host", "power"]).optional(),
  })
  .check(({ value: nodes, issues }) => {
    const refuse = (field: string, message: string) => void issues.push({ code: "custom", input: nodes, path: [field], message });
    if (nodes.availability === "spot" && nodes.reservation !== undefined) refuse("reservation", "spot servers cannot use a reservation");
    if (nodes.onPreemption !== undefined && nodes.availability !== "spot") refuse("onPreemption", "only spot servers are preempted");
    if (nodes.spread !== undefined && nodes.reservation !== undefined) refuse("spread", "servers of a reservation cannot be spread");
    if (nodes.spread === "host" && nodes.count > 12) refuse("count", "at most 12 servers can be spread over hosts");
    if (nodes.spread === "power" && nodes.count > 4) refuse("count", "at most 4 servers can be spread over power feeds");
  });

/** Bare-metal servers. They are billed until they are deleted, also while powered off. */
const metalNodes = z.strictObject({
  source: z.literal("bare-metal"),
  profile: z
    .string()
    .min(1)
    .describe("for example gx3d-metal-224x2048x8mi300x-sn; us-east, by approval, one node without a cluster network"),
  count: z.int().min(1).max(1024),
  image,
  reservation: z.string().min(1).optional(),
});

/** Machines that are there already, of whatever provider, reached by SSH. Nothing about them is created or deleted. */
const existingNodes = z.strictObject({
  source: z.literal("existing"),
  hosts: z
    .array(
      z.strictObject({
        address: z.union(
          [z.string().regex(/^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$/), z.ipv6()],
          "expected a host name or an IP address; a port is a field of its own",
        ),
        user: z.string().regex(/^[A-Za-z_][\w.-]*$/, "expected the name of a user"),
        port: z.int().min(1).max(65_535).default(22),
        /** The host's public key, so that the first connection is not one of blind trust. */
        hostKey: z
          .string()
          .regex(
            /^(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp\d+) [A-Za-z0-9+/]+=*( [^\r\n]*)?$/,
            "expected a public key, such as ssh-ed25519 AAAA…",
          ),
      }),
    )
    .min(1)
    .check(({ value: hosts, issues }) => {
      const addresses = hosts.map(({ address }) => address.toLowerCase());
      addresses.forEach((address, i) => {
        if (addresses.indexOf(address) < i)
          issues.push({ code: "custom", input: address, path: [i, "address"], message: "is named twice" });
      });
    }),
});

/** Where the nodes' fast network comes from. */
const Fabric = z.discriminatedUnion(
  "kind",
  [
    z.strictObject({ kind: z.literal("none") }),
    /** Use what bootstrap finds on the nodes (RDMA devices by PCI vendor), nothing is assumed. */
    z.strictObject({ kind: z.literal("discover") }),
    /** A cluster network of IBM VPC. Documented for H100 and H200 profiles only; whether the node profile can join is asked of the API. */
    z.strictObject({
      kind: z.literal("cluster-network"),
      profile: z.string().min(1),
      attachments: z.literal([8, 16, 32], "expected 8, 16 or 32"),
    }),
  ],
  'expected "none", "discover" or "cluster-network"',
);

/** Two ranges of /1 are all addresses: no provider has more than a /8. */
const widestRange = 8;
const openToMost = `opens SSH to more than a /${widestRange}; use access kind "open-bastion" if everyone is meant`;

/** How people reach the nodes. GPU nodes never get a public address. */
const Access = z.discriminatedUnion(
  "kind",
  [
    z.strictObject({
      kind: z.literal("bastion"),
      /** Who may connect to port 22. The whole internet must be asked for by name. */
      from: z.array(Cidr.refine((range) => Number(range.split("/")[1]) >= widestRange, openToMost)).min(1),
      sshKey: z.string().min(1),
    }),
    z.strictObject({ kind: z.literal("open-bastion"), sshKey: z.string().min(1) }),
    z.strictObject({ kind: z.literal("vpn"), certificate: Crn, clientRange: Cidr }),
    z.strictObject({ kind: z.literal("none") }),
  ],
  'expected "bastion", "open-bastion", "vpn" or "none"',
);

/** Addresses of a subnet that IBM keeps. */
const reservedAddresses = 5;

/** Machines with GPUs and their network, as plain data. */
export const Cluster = z
  .strictObject({
    formatVersion: z.literal(1),
    kind: z.literal("cluster"),
    name: ResourceName,
    region: Region,
    /** An account's zone (us-east-1) or a universal one (us-east-wdc07-a), which the plan translates: us-east-1 differs by account. */
    zone: z.string().regex(/^[a-z]{2}-[a-z]+-([1-3]|[a-z]{3}\d\d-[a-z])$/, "expected a zone such as us-east-1 or us-east-wdc07-a"),
    resourceGroup: z.string().min(1).default("Default"),
    nodes: z.discriminatedUnion("source", [virtualNodes, metalNodes, existingNodes], 'expected "virtual", "bare-metal" or "existing"'),
    fabric: Fabric.default({ kind: "discover" }),
    /** A VPC of one's own, or the id of one that is there. */
    vpc: z
      .union(
        [z.strictObject({ id: z.string().min(1) }), z.strictObject({ range: PrivateCidr })],
        'expected { id } of one that is there, or { range } such as "10.240.0.0/16"',
      )
      .default({ range: "10.240.0.0/16" }),
    access: Access,
    /** Root key for disks and buckets. */
    encryptionKey: Crn.optional(),
    tags: z.array(z.string().regex(/^[\w:. -]{1,128}$/)).default([]),
    /** Destroying the cluster is refused while this is true. */
    protect: z.boolean().default(false),
  })
  .check(({ value: cluster, issues }) => {
    if (!cluster.zone.startsWith(`${cluster.region}-`)) {
      issues.push({ code: "custom", input: cluster.zone, path: ["zone"], message: `is not a zone of ${cluster.region}` });
    }
    if (cluster.fabric.kind === "cluster-network" && cluster.nodes.source !== "virtual") {
      issues.push({ code: "custom", input: cluster.fabric, path: ["fabric"], message: "only virtual servers can join a cluster network" });
    }
    if (!("range" in cluster.vpc)) return;
    const { first, last } = addressesOf(cluster.vpc.range);
    const size = last - first + 1;
    if (cluster.nodes.source !== "existing" && size < cluster.nodes.count + reservedAddresses) {
      const message = `has ${size} addresses, too few for ${cluster.nodes.count} nodes and ${reservedAddresses} that IBM reserves`;
      issues.push({ code: "custom", input: cluster.vpc, path: ["vpc", "range"], message });
    }
    if (cluster.access.kind === "vpn") {
      const clients = addressesOf(cluster.access.clientRange);
      if (clients.first <= last && first <= clients.last) {
        issues.push({
          code: "custom",
          input: cluster.access,
          path: ["access", "clientRange"],
          message: `overlaps ${cluster.vpc.range}, the VPC's range`,
        });
      }
    }
  });
export type Cluster = z.infer<typeof Cluster>;
