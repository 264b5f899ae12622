import { readTokenizerFiles, type TokenizerFiles } from "@zaya/model";
import { fail } from "./errors.js";

/**
 * The files of the tokenizer in a folder.
 * @throws INVALID_OPTIONS, with `hint` at its end, where there is none
 */
export async function tokenizerOf(dir: string, hint = ""): Promise<TokenizerFiles> {
  const files = await readTokenizerFiles(dir);
  return "tokenizer.json" in files ? files : fail("INVALID_OPTIONS", `${dir}: there is no tokenizer.json${hint}`);
}
