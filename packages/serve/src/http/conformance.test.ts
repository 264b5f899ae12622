import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { openReferenceCase, referenceCases } from "../../../model/src/testing/reference_case.js";
import { createEngine } from "../create_engine.js";
import { createServer } from "./server.js";

const layouts = referenceCases.flatMap((path) => [
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
    const expected = await openReferenceCase(path);
    const [batch = 0, length = 0, vocabSize = 0] = expected.shape("logits");
    const logits = await expected.numbers("logits");
    const [, total = 0] = expected.shape("generated");
    const generated = await expected.integers("generated");
    const ids = await expected.integers("input_ids");
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
        const row = logits.subarray((b * length + t - 1) * vocabSize, (b * length + t) * vocabSize);
        const max = Math.max(...row);
        const normaliser = max + Math.log(row.reduce((sum, logit) => sum + Math.exp(logit - max), 0));
        const reference = (row[ids[b * length + t] as number] as number) - normaliser;
        expect(Math.abs((given[t] as number) - reference)).toBeLessThan(1e-3);
      }
      // The reference was given a least length: where it would have ended, it took the next best token. The server ends, and goes on behind that token.
      const reference = generated.slice(b * total, (b + 1) * total);
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
