import { readdir, readFile } from "node:fs/promises";
import { extname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";

/** One file of the playground page. */
export interface PageFile {
  readonly path: string;
  readonly type: string;
  readonly body: Buffer;
}

const types: Readonly<Record<string, string>> = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".svg": "image/svg+xml",
};

/** What the page may load: its own files, and nothing from elsewhere. */
export const pagePolicy =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'";

/** The built page beside this module in dist, or in dist seen from src; empty where it was not built, or a bundle was not given it. */
export async function readPage(): Promise<PageFile[]> {
  if (import.meta.url === undefined) return []; // in a bundle of CommonJS modules
  for (const place of ["./page/", "../page/", "../../dist/page/"]) {
    const dir = fileURLToPath(new URL(place, import.meta.url));
    const names = await readdir(dir, { recursive: true }).catch((): string[] => []);
    if (!names.includes("index.html")) continue;
    const files = names.filter((name) => types[extname(name)] !== undefined);
    return Promise.all(
      files.map(async (name) => ({
        path: name === "index.html" ? "/" : `/${relative(dir, join(dir, name)).replaceAll("\\", "/")}`,
        type: types[extname(name)] as string,
        body: await readFile(join(dir, name)),
      })),
    );
  }
  return [];
}
