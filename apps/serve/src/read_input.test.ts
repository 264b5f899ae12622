import { expect, test } from "vitest";
import { readInput } from "./read_input.js";

const mib = 2 ** 20;

test("takes 64 MiB of stdin, characters cut anywhere, and no byte more", async () => {
  const [first, second] = [Buffer.from("é").subarray(0, 1), Buffer.from("é").subarray(1)];
  const chunk = Buffer.alloc(mib, "x");
  async function* input(more: Buffer[]) {
    yield first;
    yield second;
    for (let i = 0; i < 63; i++) yield chunk;
    yield* more;
  }
  expect(await readInput(input([chunk.subarray(2)]))).toHaveLength(64 * mib - 1);
  await expect(readInput(input([chunk]))).rejects.toThrow("stdin has more than 64 MiB; give a shorter prompt");
});
