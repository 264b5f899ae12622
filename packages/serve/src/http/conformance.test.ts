import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { createEngine } from "../create_engine.js";
import { createServer } from "./server.js";

// Cases made by the reference implementation, those of @zaya/model and any in the folders of ZAYA_CASES.
const folders = [fileURLToPath(new URL("../../../model/fixtures", import.meta.url)), ...(process.env.ZAYA_CASES?.split(":") ?? [])];
const cases = folders.flatMap((folder) =>
  readdirSync(folder)
    .map((name) => join(folder, name))
    .filter((path) => existsSync(join(path, "expected.safetensors"))),
);
const layouts = cases.flatMap((path) => [
  { path, checkpoint: path },
  ...(existsSync(join(path, "legacy")) ? [{ path, checkpoint: join(path, "legacy") }] : []),
]);

interface Answer {
  readonly choices: readonly { readonly logprobs: { readonly token_logprobs: (number | null)[] }; readonly token_ids: number[] }[];
}

test.each(layouts)("gives the reference's log-probabilities and greedy tokens for $checkpoint", async ({ path, checkpoint }) => {
  const expected = readCase(path);
  const [batch = 0, length = 0, vocabSize = 0] = expected.logits.shape;
  const ids = expected.input.values;
  await using engine = await createEngine(checkpoint);
  const server = await createServer(engine);
  const response = await server.inject({
    method: "POST",
    url: "/v1/completions",
    payload: {
      prompt: Array.from({ length: batch }, (_, b) => ids.slice(b * length, (b + 1) * length)),
      max_tokens: (expected.generated.shape[1] as number) - length,
      temperature: 0,
      logprobs: 1,
      echo: true,
      ignore_eos: true,
      return_token_ids: true,
    },
  });
  expect(response.statusCode).toBe(200);
  const { choices } = response.json<Answer>();
  for (let b = 0; b < batch; b++) {
    const given = choices[b]?.logprobs.token_logprobs ?? [];
    for (let t = 1; t < length; t++) {
      const row = expected.logits.values.slice((b * length + t - 1) * vocabSize, (b * length + t) * vocabSize);
      const max = Math.max(...row);
      const normaliser = max + Math.log(row.reduce((sum, logit) => sum + Math.exp(logit - max), 0));
      const reference = (row[ids[b * length + t] as number] as number) - normaliser;
      expect(Math.abs((given[t] as number) - reference)).toBeLessThan(1e-3);
    }
    const steps = expected.generated.shape[1] as number;
    expect(choices[b]?.token_ids).toEqual(expected.generated.values.slice(b * steps + length, (b + 1) * steps));
  }
  await server.close();
});

interface Numbers {
  readonly shape: readonly number[];
  readonly values: readonly number[];
}

function readCase(path: string): { input: Numbers; logits: Numbers; generated: Numbers } {
  const file = readFileSync(join(path, "expected.safetensors"));
  const headerBytes = Number(file.readBigUInt64LE(0));
  const header = JSON.parse(file.subarray(8, 8 + headerBytes).toString()) as Record<
    string,
    { shape: number[]; data_offsets: [number, number] }
  >;
  const tensor = (name: string): Numbers => {
    const { shape, data_offsets } = header[name] as { shape: number[]; data_offsets: [number, number] };
    const bytes = Uint8Array.from(file.subarray(8 + headerBytes + data_offsets[0], 8 + headerBytes + data_offsets[1])).buffer;
    return { shape, values: name === "logits" ? [...new Float32Array(bytes)] : Array.from(new BigInt64Array(bytes), Number) };
  };
  return { input: tensor("input_ids"), logits: tensor("logits"), generated: tensor("generated") };
}
