import { ZayaError } from "@zaya/kernels";

/** Where models are asked for, and as whom. */
export interface HubAccess {
  /** URL of the hub, such as https://huggingface.co. */
  readonly endpoint: string;
  readonly token?: string | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** One file of a model as the hub lists it. */
export interface RemoteFile {
  readonly name: string;
  readonly bytes: number;
  /** Its name in the cache: the SHA-256 of a large file, the git hash (SHA-1) of a small one. */
  readonly etag: string;
  readonly url: string;
}

/** A model at one commit, with the files at the top of its repository. */
export interface RemoteModel {
  readonly commit: string;
  readonly files: ReadonlyMap<string, RemoteFile>;
}

/** Time that the hub has to answer what a model consists of. */
const answerMilliseconds = 15_000;

/**
 * Asks the hub for the commit of a revision and its files.
 *
 * @throws MODEL_NOT_FOUND, MODEL_GATED, HUB_UNREACHABLE, HUB_FAILED
 */
export async function findModel(model: string, revision: string, access: HubAccess): Promise<RemoteModel> {
  // Loaded here: it takes 100 ms, which a start from the cache need not wait for.
  const { listFiles, modelInfo } = await import("@huggingface/hub");
  const hubFetch = createHubFetch(model, revision, access);
  const patientFetch: typeof fetch = (input, init) => {
    const signals = [init?.signal, AbortSignal.timeout(answerMilliseconds)].filter((each) => each instanceof AbortSignal);
    return hubFetch(input, { ...init, signal: AbortSignal.any(signals) });
  };
  const options = { hubUrl: access.endpoint, fetch: patientFetch };
  const { sha: commit } = await modelInfo({ ...options, name: model, revision, additionalFields: ["sha"] });
  if (!/^[0-9a-f]{40}$/.test(commit)) throw new ZayaError("HUB_FAILED", `${access.endpoint} names no commit of ${model}`);
  const files = new Map<string, RemoteFile>();
  for await (const { type, path, size, oid, lfs } of listFiles({ ...options, repo: { type: "model", name: model }, revision: commit })) {
    const etag = lfs?.oid ?? oid ?? "";
    if (type !== "file" || !/^[0-9a-f]{40}([0-9a-f]{24})?$/.test(etag)) continue;
    const url = `${access.endpoint}/${model}/resolve/${commit}/${encodeURIComponent(path)}`;
    files.set(path, { name: path, bytes: lfs?.size ?? size, etag, url });
  }
  return { commit, files };
}

/**
 * A `fetch` that shows the token to the hub alone (a redirect to another host loses it) and throws what a refusal means.
 * Statuses that another try may change (429, 5xx) throw HUB_FAILED, a connection that fails HUB_UNREACHABLE.
 */
export function createHubFetch(model: string, revision: string, access: HubAccess): typeof fetch {
  const { endpoint, token, signal } = access;
  const signals = (other?: AbortSignal | null) => AbortSignal.any([signal, other].filter((each) => each instanceof AbortSignal));
  return async (input, init) => {
    const headers = new Headers(init?.headers);
    if (token) headers.set("authorization", `Bearer ${token}`);
    headers.set("user-agent", "zaya-serve");
    const response = await fetch(input, { ...init, headers, signal: signals(init?.signal) }).catch((cause: unknown) => {
      signal?.throwIfAborted();
      throw new ZayaError("HUB_UNREACHABLE", `${endpoint} cannot be reached (${reasonOf(cause)}); check the network, or HF_ENDPOINT`, {
        cause,
      });
    });
    if (response.ok) return response;
    await response.body?.cancel();
    throw refusal(response, model, revision, access);
  };
}

/** What an answer that is not the file means, in one line that says what to do. */
function refusal({ status, statusText, headers }: Response, model: string, revision: string, { endpoint, token }: HubAccess): ZayaError {
  const code = headers.get("x-error-code");
  const page = `${endpoint}/${model}`;
  if (code === "GatedRepo" || status === 403) {
    const todo = token ? "with the account of the token" : `then set HF_TOKEN to a token of your account (${endpoint}/settings/tokens)`;
    return new ZayaError("MODEL_GATED", `${model} is gated: accept its terms at ${page} ${todo}`);
  }
  if (code === "RevisionNotFound") return new ZayaError("MODEL_NOT_FOUND", `${page} has no revision ${revision}`);
  // The hub answers 401, not 404, to those it does not know: it does not tell what is private from what is not there.
  if (status === 404 || (status === 401 && (!token || code === "RepoNotFound"))) {
    const hint = token ? "the account of the token may not see it" : "it is private: set HF_TOKEN";
    return new ZayaError("MODEL_NOT_FOUND", `${endpoint} has no model ${model}, or ${hint}`);
  }
  if (status === 401)
    return new ZayaError("MODEL_GATED", `${endpoint} does not accept the token; make a new one at ${endpoint}/settings/tokens`);
  return new ZayaError("HUB_FAILED", `${endpoint} answers ${status} ${statusText} for ${model}; try again later`);
}

/** "ECONNREFUSED", "getaddrinfo ENOTFOUND huggingface.co": the innermost reason of a failed fetch. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if (error.cause instanceof Error) return reasonOf(error.cause);
  return error.message || ((error as NodeJS.ErrnoException).code ?? error.name);
}
