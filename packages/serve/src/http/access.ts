import { createHash, timingSafeEqual } from "node:crypto";
import type { AddressInfo } from "node:net";
import { HttpError } from "./errors.js";

const digest = (text: string) => createHash("sha256").update(text).digest();

/** Makes the check of an `Authorization` header; it takes as long whatever the header shares with the key. Throws 401. */
export function expectKey(apiKey: string): (authorization: string | undefined) => void {
  const expected = digest(apiKey);
  return (authorization) => {
    const [, given] = /^Bearer +(\S+) *$/i.exec(authorization ?? "") ?? [];
    if (given !== undefined && timingSafeEqual(digest(given), expected)) return;
    const problem = given === undefined ? "this server needs an API key" : "the API key is not that of this server";
    throw new HttpError(401, "invalid_api_key", `${problem}; send it as "Authorization: Bearer KEY"`);
  };
}

const loopbackHost = /^(localhost|127(\.\d{1,3}){3}|\[::1\])$/i;

/**
 * Refuses a request to a server that listens on this machine alone if it calls the server by a name that is not allowed: where a page's name is made to
 * mean 127.0.0.1 (DNS rebinding), its browser takes the server for that page's own. Throws 403.
 */
export function expectHost(listensOn: AddressInfo | string | null, host: string | undefined, allowedHosts: readonly string[]): void {
  if (listensOn === null || typeof listensOn === "string" || !/^(127\.|::1$)/.test(listensOn.address)) return;
  const name = host?.replace(/:\d*$/, "");
  if (name === undefined || loopbackHost.test(name) || allowedHosts.some((allowed) => allowed.toLowerCase() === name.toLowerCase())) return;
  const advice = "call it localhost, or allow the name (--allow-host, allowedHosts)";
  throw new HttpError(403, "host_not_allowed", `this server is not known as ${JSON.stringify(name.slice(0, 100))}; ${advice}`);
}
