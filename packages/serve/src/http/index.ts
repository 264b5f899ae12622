export type { ErrorBody } from "./errors.js";
export { createHandler, createServer, type ServerOptions } from "./server.js";
