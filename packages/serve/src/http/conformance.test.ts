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
  readonly choices: readonly { readonly logprobs?: { readonly token_logprobs: (number | null)[] }; readonly token_ids: number[] }[];
}

test.each(layouts)(
  "gives the reference's log-probabilities and greedy tokens for $checkpoint",
  { timeout: 120_000 },
  async ({ path, checkpoint }) => {
    const expected = readCase(path);
    const [batch = 0, length = 0, vocabSize = 0] = expected.logits.shape;
    const total = expected.generated.shape[1] as number;
    const ids = expected.input.values;
    const { eos_token_id: end } = JSON.parse(readFileSync(join(path, "config.json"), "utf8")) as { eos_token_id: number };
    await using engine = await createEngine(checkpoint);
    const server = await createServer(engine);
    const complete = async (body: Record<string, unknown>) => {
      const payload = { temperature: 0, return_token_ids: true, ignore_eos: true, stop_token_ids: [end], ...body };
      const response = await server.inject({ method: "POST", url: "/v1/completions", payload });
      expect(response.statusCode).toBe(200);
      return response.json<Answer>().choices;
    };
    const prompts = Array.from({ length: batch }, (_, b) => ids.slice(b * length, (b + 1) * length));
    const choices = await complete({ prompt: prompts, max_tokens: total - length, logprobs: 1, echo: true });
    for (const [b, choice] of choices.entries()) {
      const given = choice.logprobs?.token_logprobs ?? [];
      for (let t = 1; t < length; t++) {
        const row = expected.logits.values.slice((b * length + t - 1) * vocabSize, (b * length + t) * vocabSize);
        const max = Math.max(...row);
        const normaliser = max + Math.log(row.reduce((sum, logit) => sum + Math.exp(logit - max), 0));
        const reference = (row[ids[b * length + t] as number] as number) - normaliser;
        expect(Math.abs((given[t] as number) - reference)).toBeLessThan(1e-3);
      }
      // The reference was given a least length: where it would have ended, it took the next best token. The server ends, and goes on behind that token.
      const reference = expected.generated.values.slice(b * total, (b + 1) * total);
      let tokens = choice.token_ids;
      for (let at = length; at < total; ) {
        const ended = tokens.at(-1) === end;
        if (ended) tokens = tokens.slice(0, -1);
        expect(tokens).toEqual(reference.slice(at, ended ? at + tokens.length : total));
        at += tokens.length + 1;
        if (ended && at < total) tokens = (await complete({ prompt: reference.slice(0, at), max_tokens: total - at }))[0]?.token_ids ?? [];
      }
    }
    await server.close();
  },
);

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
