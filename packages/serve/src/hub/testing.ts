import { createHash } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

/** How the hub treats a request for a file. */
export interface Fault {
  /** Closes the connection after so many bytes of the answer. */
  readonly dropAfter?: number;
  /** Sends other bytes than it lists. */
  readonly wrongBytes?: boolean;
  readonly status?: number;
  /** Sends the whole file whatever range is asked for. */
  readonly ignoresRange?: boolean;
  /** Stops sending after so many bytes, until the client goes. */
  readonly hangAfter?: number;
}

/** A hub on this machine that speaks what @huggingface/hub asks for; large files are redirected to a second server. */
export interface LoopbackHub extends AsyncDisposable {
  readonly endpoint: string;
  readonly commit: string;
  /** "file range" of every request for a file that was answered, in order, and its authorization. */
  readonly requests: { readonly path: string; readonly range: string; readonly authorization: string; readonly cdn: boolean }[];
  readonly apiCalls: string[];
  /** Faults of the next requests for a file, first one first. */
  readonly faults: Map<string, Fault[]>;
  /** Files that only these tokens get. */
  gatedFor: string | null;
  privateFor: string | null;
  /** Status of every answer, in place of what was asked for. */
  refusesWith: number | null;
  /** Sizes that the list tells instead of the true ones. */
  readonly listedBytes: Map<string, number>;
}

/** Files above this many bytes are kept as large ones: SHA-256 for an etag, and on the second server. */
const largeBytes = 1000;

export async function openLoopbackHub(model: string, files: Readonly<Record<string, Uint8Array>>): Promise<LoopbackHub> {
  const commit = createHash("sha1")
    .update(JSON.stringify(Object.keys(files)))
    .digest("hex");
  const sha256 = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");
  const gitHash = (bytes: Uint8Array) => createHash("sha1").update(`blob ${bytes.length}\0`).update(bytes).digest("hex");

  const cdn = createServer((request, response) => sendFile(request, response, true));
  const server = createServer((request, response) => {
    const path = decodeURIComponent((request.url ?? "").split("?")[0] as string);
    const token = request.headers.authorization?.replace("Bearer ", "");
    const refuse = (status: number, code: string) => {
      response.writeHead(status, { "x-error-code": code, "content-type": "application/json" }).end('{"error":"no"}');
    };
    const json = (value: unknown) => response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(value));
    if (path.startsWith("/api/")) hub.apiCalls.push(path);
    if (hub.refusesWith !== null) return refuse(hub.refusesWith, "");
    if (!path.startsWith(`/api/models/${model}/`) && !path.startsWith(`/${model}/resolve/`))
      return refuse(token ? 404 : 401, "RepoNotFound");
    if (hub.privateFor !== null && token !== hub.privateFor) return refuse(token ? 404 : 401, "RepoNotFound");
    const [, revision] = /\/(?:revision|tree|resolve)\/([^/]+)/.exec(path) ?? [];
    if (revision !== "main" && revision !== "v1" && revision !== commit) return refuse(404, "RevisionNotFound");
    if (path.includes("/revision/")) return json({ _id: "1", id: model, sha: commit, lastModified: "2026-01-01T00:00:00.000Z" });
    if (path.includes("/tree/")) {
      return json(
        Object.entries(files).map(([name, bytes]) => {
          const size = hub.listedBytes.get(name) ?? bytes.length;
          const lfs = bytes.length > largeBytes ? { lfs: { oid: sha256(bytes), size, pointerSize: 130 } } : {};
          return { type: "file", path: name, size, oid: gitHash(bytes), ...lfs };
        }),
      );
    }
    if (hub.gatedFor !== null && token !== hub.gatedFor) return refuse(token ? 403 : 401, "GatedRepo");
    const name = path.split("/").pop() as string;
    if (!(name in files)) return refuse(404, "EntryNotFound");
    if ((files[name] as Uint8Array).length <= largeBytes) return sendFile(request, response, false);
    response.writeHead(302, { location: `${originOf(cdn)}/${name}`, "x-linked-etag": `"${sha256(files[name] as Uint8Array)}"` }).end();
  });

  function sendFile(request: IncomingMessage, response: ServerResponse, fromCdn: boolean): void {
    const path = decodeURIComponent((request.url ?? "").split("/").pop() as string);
    const { range = "", authorization = "" } = request.headers;
    hub.requests.push({ path, range, authorization, cdn: fromCdn });
    const fault = hub.faults.get(path)?.shift() ?? {};
    if (fault.status) return void response.writeHead(fault.status).end();
    const whole = Buffer.from(files[path] as Uint8Array);
    const start = fault.ignoresRange ? 0 : Number(/^bytes=(\d+)-/.exec(range)?.[1] ?? 0);
    const bytes = fault.wrongBytes ? Buffer.from(whole.subarray(start)).fill(7) : whole.subarray(start);
    const partial = range !== "" && !fault.ignoresRange;
    response.writeHead(partial ? 206 : 200, {
      "content-length": bytes.length,
      ...(partial ? { "content-range": `bytes ${start}-${whole.length - 1}/${whole.length}` } : {}),
    });
    const end = fault.dropAfter ?? fault.hangAfter;
    if (end === undefined) return void response.end(bytes);
    response.write(bytes.subarray(0, end), () => {
      if (fault.dropAfter !== undefined) setImmediate(() => response.destroy());
    });
  }

  const listening = [cdn, server].map((each) => once(each.listen(0, "127.0.0.1"), "listening"));
  await Promise.all(listening);
  const hub: LoopbackHub = {
    endpoint: originOf(server),
    commit,
    requests: [],
    apiCalls: [],
    faults: new Map(),
    gatedFor: null,
    privateFor: null,
    refusesWith: null,
    listedBytes: new Map(),
    async [Symbol.asyncDispose]() {
      for (const each of [cdn, server]) {
        each.closeAllConnections();
        each.close();
      }
    },
  };
  return hub;
}

function originOf(server: ReturnType<typeof createServer>): string {
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}
