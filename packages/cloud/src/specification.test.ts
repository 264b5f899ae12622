import { expect, test } from "vitest";
import { parseSpecification } from "./specification.js";

const cluster = {
  formatVersion: 1,
  kind: "cluster",
  name: "first",
  region: "us-east",
  zone: "us-east-wdc07-a",
  nodes: { source: "virtual", profile: "gx3d-208x1792x8mi300x", count: 2, image: "ibm-ubuntu-24-04-amd64-1" },
  access: { kind: "bastion", from: ["203.0.113.0/24"], sshKey: "laptop" },
};
const job = {
  formatVersion: 1,
  kind: "job",
  name: "run",
  cluster: "first",
  arguments: ["train", "--model", "zaya1-8b"],
  nodes: 2,
  output: "s3://runs/first",
};
const deployment = { formatVersion: 1, kind: "deployment", name: "chat", cluster: "first", checkpoint: "s3://models/zaya1-8b" };

const host = { address: "10.1.2.3", user: "root", hostKey: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5" };
const existing = (change: object) => ({ ...cluster, nodes: { source: "existing", hosts: [{ ...host, ...change }] } });
const vpn = (clientRange: string) => ({ kind: "vpn", certificate: "crn:v1:certificate", clientRange });

test("fills in defaults", () => {
  expect(parseSpecification(cluster)).toMatchObject({
    fabric: { kind: "discover" },
    resourceGroup: "Default",
    protect: false,
    nodes: { availability: "standard" },
  });
  expect(parseSpecification(job)).toMatchObject({ processesPerNode: 8, restarts: 3, limit: {} });
  expect(parseSpecification({ ...deployment, loadBalancer: { from: ["10.0.0.0/8"] } })).toMatchObject({
    dtype: "bfloat16",
    replicas: 1,
    loadBalancer: { public: false, idleTimeoutSeconds: 600 },
  });
});

test("gives plain data that parses to itself", () => {
  for (const specification of [cluster, job, deployment]) {
    const parsed = parseSpecification(specification);
    expect(parseSpecification(JSON.parse(JSON.stringify(parsed)))).toEqual(parsed);
  }
});

test("takes machines that are there already", () => {
  for (const host of [
    {},
    { address: "2001:db8::1" },
    { address: "::1" },
    { address: "node-1.example.com", user: "_ops.team" },
    { hostKey: "ssh-ed25519 AAAA== me@home" },
  ])
    expect(parseSpecification(existing(host))).toMatchObject({ nodes: { hosts: [{ port: 22 }] } });
});

test.each([
  ["a name IBM would refuse", { ...cluster, name: "First_One" }, "cluster: name: expected lower-case letters, digits and hyphens"],
  ["a reserved name", { ...cluster, name: "ibm-first" }, 'names that start with "ibm-" are reserved'],
  ["a zone of another region", { ...cluster, region: "eu-de" }, "cluster: zone: is not a zone of eu-de"],
  ["no nodes", { ...cluster, nodes: { ...cluster.nodes, count: 0 } }, "cluster: nodes.count: "],
  [
    "spot servers of a reservation",
    { ...cluster, nodes: { ...cluster.nodes, availability: "spot", reservation: "r" } },
    "nodes.reservation: spot servers cannot use a reservation",
  ],
  [
    "more servers than can be spread",
    { ...cluster, nodes: { ...cluster.nodes, count: 5, spread: "power" } },
    "nodes.count: at most 4 servers",
  ],
  [
    "SSH open to everyone by accident",
    { ...cluster, access: { ...cluster.access, from: ["0.0.0.0/0"] } },
    "access.from.0: opens SSH to more than a /8",
  ],
  [
    "SSH open to everyone in two halves",
    { ...cluster, access: { ...cluster.access, from: ["0.0.0.0/1", "128.0.0.0/1"] } },
    "access.from.0: opens SSH to more than a /8",
  ],
  ["a key of two lines", existing({ hostKey: "ssh-ed25519 AAAA\nssh-rsa BBBB" }), "hosts.0.hostKey: expected a public key"],
  ["an address with an option in it", existing({ address: "10.1.2.3 -oProxyCommand=x" }), "hosts.0.address: expected a host name"],
  ["a user with a command in it", existing({ user: "root; rm" }), "hosts.0.user: expected the name of a user"],
  [
    "an address with a port in it",
    existing({ address: "10.1.2.3:2222" }),
    "hosts.0.address: expected a host name or an IP address; a port",
  ],
  [
    "the same host twice",
    { ...cluster, nodes: { source: "existing", hosts: [host, { ...host, address: "Node-1" }, { ...host, address: "node-1" }] } },
    "nodes.hosts.2.address: is named twice",
  ],
  ["a zone no region has", { ...cluster, zone: "us-east-4" }, "zone: expected a zone such as us-east-1"],
  ["a VPC of public addresses", { ...cluster, vpc: { range: "172.32.0.0/16" } }, "vpc.range: expected a range within 10.0.0.0/8"],
  ["a VPC of all addresses", { ...cluster, vpc: { range: "10.0.0.0/7" } }, "vpc.range: expected a range within 10.0.0.0/8"],
  [
    "a VPC that is too small",
    { ...cluster, nodes: { ...cluster.nodes, count: 4 }, vpc: { range: "10.0.0.0/29" } },
    "vpc.range: has 8 addresses, too few for 4 nodes and 5 that IBM reserves",
  ],
  ["a VPN over the VPC", { ...cluster, access: vpn("10.240.128.0/20") }, "access.clientRange: overlaps 10.240.0.0/16, the VPC's range"],
  ["a VPN around the VPC", { ...cluster, access: vpn("10.240.0.0/9") }, "access.clientRange: overlaps 10.240.0.0/16, the VPC's range"],
  ["12 attachments", { ...cluster, fabric: { kind: "cluster-network", profile: "hopper-1", attachments: 12 } }, "expected 8, 16 or 32"],
  ["a misspelt range", { ...cluster, vpc: { rang: "10.0.0.0/16" } }, "vpc: expected { id } of one that is there, or { range }"],
  [
    "bare metal in a cluster network",
    {
      ...cluster,
      nodes: { ...cluster.nodes, source: "bare-metal" },
      fabric: { kind: "cluster-network", profile: "hopper-1", attachments: 8 },
    },
    "fabric: only virtual servers",
  ],
  ["a misspelt field", { ...job, restart: 1 }, 'job: Unrecognized key: "restart"'],
  ["an output that is not in object storage", { ...job, output: "/tmp/out" }, "job: output: expected s3://bucket"],
  ["a kind nobody knows", { kind: "pod" }, 'pod: kind: expected "cluster", "job" or "deployment"'],
  ["a version nobody knows", { ...deployment, formatVersion: 2 }, "deployment: formatVersion: "],
  ["nothing", undefined, "specification: "],
])("refuses %s in one line", (_, value, message) => {
  expect(() => parseSpecification(value)).toThrow(
    expect.objectContaining({ code: "SPECIFICATION_INVALID", message: expect.stringContaining(message) }),
  );
  expect(() => parseSpecification(value)).toThrow(/^[^\n]+$/);
});

test.each([
  "IC_API_KEY",
  "API_KEYS",
  "OPENAI_APIKEY",
  "PGPASSWORD",
  "DB_PASSWD",
  "SMTP_PASS",
  "GITHUB_PAT",
  "HF_TOKEN",
  "HF_TOKEN_1",
  "SECRET_KEY",
  "AWS_SECRET_ACCESS_KEY",
  "AWS_ACCESS_KEY_ID",
  "COS_HMAC_SECRET_ACCESS_KEY",
  "SSH_PRIVATE_KEY",
  "db_credentials_json",
])("refuses the credential %s", (name) => {
  expect(() => parseSpecification({ ...job, environment: { [name]: "x" } })).toThrow(`environment.${name}: looks like a credential`);
});

test.each(["TOKENIZERS_PARALLELISM", "MAX_TOKENS", "NUM_TRAIN_TOKENS", "HF_TOKEN_PATH", "PATH", "COMPASS", "MONKEY", "SECRETARY"])(
  "takes %s, which is no credential",
  (name) => expect(parseSpecification({ ...job, environment: { [name]: "x" } })).toMatchObject({ environment: { [name]: "x" } }),
);

test("takes ranges that are private, large enough and beside each other", () => {
  for (const change of [
    { nodes: { ...cluster.nodes, count: 3 }, vpc: { range: "172.31.255.248/29" } },
    { vpc: { range: "192.168.0.0/17" }, access: vpn("192.168.128.0/17") },
    { vpc: { id: "r014-1" }, access: vpn("10.240.0.0/20") },
    { zone: "us-east-3" },
  ])
    expect(parseSpecification({ ...cluster, ...change })).toMatchObject(change);
});

test("names every fault at once", () => {
  const wrong = { ...cluster, region: "eu-de", access: { ...cluster.access, from: ["0.0.0.0/0"] } };
  expect(() => parseSpecification(wrong)).toThrow(
    'cluster: access.from.0: opens SSH to more than a /8; use access kind "open-bastion" if everyone is meant; zone: is not a zone of eu-de',
  );
});

test("marks its errors as all packages do", () => {
  try {
    parseSpecification({});
    expect.unreachable();
  } catch (error) {
    expect((error as Record<symbol, unknown>)[Symbol.for("zaya.error")]).toBe(true);
  }
});
