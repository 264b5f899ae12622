// For tests of recovery, in a process of its own: counts the bytes and the changes of names that a program writes below a folder, and kills
// the process (SIGKILL) in the middle of the write with which the count passes a limit.
import promises from "node:fs/promises";
import { syncBuiltinESMExports } from "node:module";

/** A rename, a sync or a removal counts as this many bytes, so that limits fall between them too. */
const operationBytes = 64;

const bytesOf = (data: Uint8Array | string) => (typeof data === "string" ? Buffer.from(data) : data);

/** Starts counting. With an infinite limit the total can be asked for at the end. */
export function killAfter(limit: number, folder: string): { count(): number } {
  let counted = 0;
  const die = () => process.kill(process.pid, "SIGKILL");
  const operation = () => {
    counted += operationBytes;
    if (counted > limit) die();
  };
  const open = promises.open;
  type Handle = Awaited<ReturnType<typeof open>>;
  promises.open = async (path, ...rest) => {
    const handle: Handle = await open(path, ...rest);
    if (!String(path).includes(folder)) return handle;
    const write = handle.write.bind(handle) as (
      data: Uint8Array,
      offset: number,
      length: number,
      position: number | null,
    ) => Promise<{ bytesWritten: number }>;
    const counting = async (given: Uint8Array | string, offset = 0, count?: number, position: number | null = null) => {
      const data = bytesOf(given);
      const length = count ?? data.length - offset;
      const room = limit - counted;
      counted += length;
      if (length > room) {
        await write(data, offset, Math.max(0, room), position);
        die();
      }
      return await write(data, offset, length, position);
    };
    const whole = async (data: string | Uint8Array) => {
      const bytes = bytesOf(data);
      for (let done = 0; done < bytes.length; ) done += (await counting(bytes, done)).bytesWritten;
    };
    const sync = handle.sync.bind(handle);
    return Object.assign(handle, {
      write: counting,
      writeFile: whole,
      appendFile: whole,
      sync: async () => {
        await sync();
        operation();
      },
    });
  };
  const writeFile = promises.writeFile;
  promises.writeFile = async (path, data, ...rest) => {
    if (typeof path === "string" && path.includes(folder) && (typeof data === "string" || data instanceof Uint8Array)) {
      const handle = await promises.open(path, "w");
      await handle.writeFile(data);
      await handle.close();
    } else await writeFile(path, data, ...rest);
  };
  for (const name of ["rename", "rm", "symlink"] as const) {
    const original = promises[name] as (...args: unknown[]) => Promise<void>;
    (promises as Record<string, unknown>)[name] = async (...args: unknown[]) => {
      await original(...args);
      if (args.some((arg) => String(arg).includes(folder))) operation();
    };
  }
  syncBuiltinESMExports();
  return { count: () => counted };
}
