import { get, type IncomingMessage } from "node:http";
import { json } from "node:stream/consumers";
import OpenAI, { AuthenticationError } from "openai";
import { expect, test } from "vitest";
import { createToyEngine } from "../testing.js";
import { expectHost } from "./access.js";
import { createServer, type ServerOptions } from "./server.js";

/** A server that listens on this machine, and what it answers to a GET. */
async function openServer(options: ServerOptions) {
  const { engine } = await createToyEngine();
  const server = await createServer(engine, options);
  const origin = await server.listen({ port: 0, host: "127.0.0.1" });
  const { port } = new URL(origin);
  const ask = async (path: string, headers: Record<string, string> = {}) => {
    const response = await new Promise<IncomingMessage>((resolve, reject) => get({ port, path, headers }, resolve).on("error", reject));
    const body = (await json(response).catch(() => ({}))) as { error?: { code: string; message: string } };
    return { status: response.statusCode, headers: response.headers, error: body.error };
  };
  return { server, origin, port, ask };
}

test("lets nobody below /v1 without the key, however the path is written", async () => {
  const { server, ask } = await openServer({ apiKey: "a-key" });
  for (const path of ["/v1/models", "/%761/models", "/v1/models/toy", "/v1/models?key=a-key"])
    for (const given of [undefined, "a-key", "Bearer", "Bearer another", "Bearer a-key2", "Basic a-key"]) {
      const { status, headers, error } = await ask(path, given === undefined ? {} : { authorization: given });
      expect([path, given, status, headers["www-authenticate"]]).toEqual([path, given, 401, "Bearer"]);
      expect(error).toEqual({ message: expect.any(String), type: "authentication_error", param: null, code: "invalid_api_key" });
      expect(error?.message).toContain('"Authorization: Bearer KEY"');
    }
  const refused = await server.inject({ method: "POST", url: "/v1/completions", payload: { prompt: "x" } });
  expect(refused.statusCode).toBe(401);
  expect((await ask("/v1/models", { authorization: "bearer a-key" })).status).toBe(200);
  for (const path of ["/health", "/ready", "/metrics", "/tokenizer_info"]) expect((await ask(path)).status).toBe(200);
  await server.close();
});

test("OpenAI's client knows the error, and gets through with the key", async () => {
  const { server, origin } = await openServer({ apiKey: "a-key" });
  const client = (apiKey: string) => new OpenAI({ baseURL: `${origin}/v1`, apiKey, maxRetries: 0 });
  await expect(client("none").models.list()).rejects.toThrow(AuthenticationError);
  expect((await client("a-key").models.list()).data).toHaveLength(1);
  await server.close();
});

test("other origins' pages may ask what they may send before they send the key", async () => {
  const { server } = await openServer({ apiKey: "a-key", corsOrigin: "http://elsewhere" });
  const headers = { origin: "http://elsewhere", "access-control-request-headers": "authorization" };
  const preflight = await server.inject({ method: "OPTIONS", url: "/v1/completions", headers });
  expect([preflight.statusCode, preflight.headers["access-control-allow-headers"]]).toEqual([204, "authorization"]);
  await server.close();
});

test("refuses a key that is empty", async () => {
  await expect(openServer({ apiKey: "" })).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
});

test("on this machine alone it is called localhost, or by a name that is allowed", async () => {
  const { server, port, ask } = await openServer({ allowedHosts: ["zaya.example"] });
  for (const host of ["localhost", `localhost:${port}`, "LOCALHOST", `127.0.0.1:${port}`, "127.1.2.3", `[::1]:${port}`, "Zaya.example:80"])
    expect([host, (await ask("/v1/models", { host })).status]).toEqual([host, 200]);
  for (const host of ["elsewhere", `elsewhere:${port}`, "127.0.0.1.elsewhere", "localhost.elsewhere", "zaya.example.elsewhere", "0.0.0.0"])
    for (const path of ["/", "/v1/models", "/health", "/nowhere"]) {
      const { status, error } = await ask(path, { host });
      expect([host, path, status, error?.code]).toEqual([host, path, 403, "host_not_allowed"]);
      expect(error?.message).toContain("--allow-host");
    }
  await server.close();
});

test.each([
  { listensOn: { address: "0.0.0.0", family: "IPv4", port: 8000 } },
  { listensOn: { address: "192.0.2.1", family: "IPv4", port: 8000 } },
  { listensOn: null },
  { listensOn: "/run/socket" },
])("a server that listens on $listensOn may be called by any name", ({ listensOn }) => {
  expect(() => expectHost(listensOn, "elsewhere", [])).not.toThrow();
});
