import { once } from "node:events";
import type { ServerResponse } from "node:http";
import { createServer as createProbe } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { setFlagsFromString } from "node:v8";
import { createServer } from "@zaya/serve/http";
import pc from "picocolors";
import { pino } from "pino";
import { nextSignal, signalAgain } from "../../terminal/src/interrupt.js";
import { exitCodes, InputError } from "./exit.js";
import { type LoadFlags, openEngine } from "./options.js";
import { describeEngine } from "./report.js";

export interface ServeFlags extends LoadFlags {
  readonly host: string;
  readonly port: number;
  readonly hugePages: boolean;
  readonly maxSequences: number;
  readonly maxWaiting?: number;
  readonly maxBatchTokens?: number;
  readonly cacheTokens?: number;
  readonly name?: string;
  readonly apiKey?: string;
  readonly allowHost?: readonly string[];
  readonly cors?: string;
  readonly drainSeconds: number;
  readonly logLevel: string;
  readonly json: boolean;
}

/** Serves a checkpoint until SIGINT or SIGTERM; then finishes what runs, at most `drainSeconds` long. A second signal ends at once. */
export async function serve(model: string, flags: ServeFlags): Promise<number> {
  if (flags.apiKey !== undefined) expectKeyCharacters(flags.apiKey);
  await expectFreePort(flags);
  if (!flags.json) process.stderr.write(`loading ${model} …\n`);
  await using engine = await openEngine(model, flags, {
    hugePages: flags.hugePages,
    measure: true,
    maxSequences: flags.maxSequences,
    maxWaiting: flags.maxWaiting,
    maxBatchTokens: flags.maxBatchTokens,
    cacheTokens: flags.cacheTokens,
    name: flags.name,
  });
  // JavaScript's young generation stays as large as loading made it: resident memory is flat from the first requests on (measured: +4 MB from
  // request 50 to 500, half of them aborted, instead of +25 MB), for somewhat more frequent small collections.
  setFlagsFromString("--semi-space-growth-factor=1");
  const logger = pino({ level: flags.logLevel }, pino.destination(2));
  const server = await createServer(engine, {
    logger,
    apiKey: flags.apiKey,
    allowedHosts: flags.allowHost,
    corsOrigin: flags.cors,
  });
  const open = new Set<ServerResponse>();
  server.server.on("request", (_, response) => {
    open.add(response);
    response.once("close", () => open.delete(response));
  });
  const address = await server
    .listen({ host: flags.host, port: flags.port, listenTextResolver: () => "listening" })
    .catch((error) => refuseToListen(error, flags));
  const reachable = server.addresses().some((on) => typeof on === "object" && !/^(127\.|::1$)/.test(on.address));
  if (reachable && flags.apiKey === undefined)
    process.stderr.write(`whoever reaches --host ${flags.host} may use the server; --api-key or ZAYA_API_KEY lets in who knows the key\n`);
  const url = address.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:").replace("//[::1]:", "//localhost:");
  if (flags.json) {
    process.stdout.write(`${JSON.stringify({ event: "listening", url, model: engine.model, memory: engine.stats().memory })}\n`);
  } else {
    const page = server.hasRoute({ method: "GET", url: "/" }) ? `  open  ${pc.cyan(`${url}/`)}\n` : "";
    process.stdout.write(`${describeEngine(engine)}\n\n${page}  curl  ${curlLine(url, flags)}\n\nCtrl-C finishes what runs and stops.\n`);
  }

  const first = await nextSignal();
  const { running, waiting } = engine.stats();
  const unfinished = running + waiting;
  if (!flags.json)
    process.stderr.write(
      unfinished > 0 ? `\nfinishing ${unfinished} request${unfinished === 1 ? "" : "s"}; the same signal again stops at once\n` : "\n",
    );
  const again = signalAgain(first).then(() => "again" as const);
  const timer = new AbortController();
  // Drained is what was generated and has reached its client.
  const drained = engine.drain().then(async () => {
    const received = [...open].filter(({ req }) => req.complete); // a request may take for ever to come
    await Promise.all(received.map((response) => new Promise((resolve) => response.once("close", resolve))));
    return "drained" as const;
  });
  const late = sleep(1000 * flags.drainSeconds, "late" as const, { signal: timer.signal });
  const outcome = await Promise.race([drained, again, late]);
  timer.abort();
  if (outcome !== "drained") await engine[Symbol.asyncDispose]();
  await server.close();
  if (flags.json) process.stdout.write(`${JSON.stringify({ event: "stopped", outcome })}\n`);
  return outcome === "drained" ? exitCodes.done : exitCodes.partial;
}

/** A key as it can stand in a header. What is refused is not told: it may be a key, and stderr a log. */
function expectKeyCharacters(key: string): void {
  if (!/^[\x21-\x7e]+$/.test(key))
    throw new InputError("--api-key, or ZAYA_API_KEY, takes a key of printable ASCII characters without spaces");
}

/** Listens once and lets go: what stands against it is told now, not when a model is downloaded and loaded. */
async function expectFreePort(flags: ServeFlags): Promise<void> {
  await using probe = createProbe();
  await once(probe.listen(flags.port, flags.host), "listening").catch((error) => refuseToListen(error, flags));
}

/** Why nothing listens, and which option says otherwise. */
function refuseToListen({ code, message }: NodeJS.ErrnoException, { host, port }: ServeFlags): never {
  if (code === "EADDRINUSE") throw new InputError(`port ${port} of ${host} is taken; choose another --port, 0 takes a free one`);
  if (code === "EACCES") throw new InputError(`port ${port} is not allowed to this user; choose a --port from 1024 on`);
  throw new InputError(`cannot listen on --host ${host}: ${message}; 127.0.0.1 is for this machine alone, 0.0.0.0 for all that reach it`);
}

function curlLine(url: string, { apiKey }: ServeFlags): string {
  const body = JSON.stringify({ prompt: "Once upon a time", max_tokens: 40, stream: false });
  const key = apiKey === undefined ? "" : ' -H "authorization: Bearer $ZAYA_API_KEY"';
  return `curl ${url}/v1/completions${key} -H 'content-type: application/json' -d '${body}'`;
}
