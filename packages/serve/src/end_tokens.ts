import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { ZayaError } from "@zaya/kernels";
import { z } from "zod";

const tokenId = z.int().min(0);
const GenerationConfig = z.looseObject({
  eos_token_id: z.union([tokenId, z.array(tokenId)], "expected a token id or a list of token ids").nullish(),
});

/**
 * The tokens that end an answer by a checkpoint's generation_config.json, which often names more than config.json does: the end of a turn beside that of a
 * text. None where there is no such file. Throws CONFIG_INVALID.
 */
export async function readEndTokens(dir: string): Promise<readonly number[]> {
  const text = await readFile(join(dir, "generation_config.json"), "utf8").catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return "{}";
    throw error;
  });
  const invalid = (problem: string, cause: unknown): never => {
    throw new ZayaError("CONFIG_INVALID", `generation_config.json: ${problem}`, { cause });
  };
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    return invalid("not JSON", cause);
  }
  const { success, data, error } = GenerationConfig.safeParse(json);
  const issue = error?.issues[0];
  if (!success) return invalid(`${issue?.path.join(".") || "the file"}: ${issue?.message}`, error);
  return [data.eos_token_id ?? []].flat();
}
