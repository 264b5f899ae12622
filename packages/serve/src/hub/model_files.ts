import { tokenizerFileNames } from "@zaya/model/internal";

/** Files beside the weights that are downloaded when they are there: all but a SentencePiece model, which only other programs read. */
export const sideFiles: readonly string[] = ["config.json", ...tokenizerFileNames.filter((name) => name !== "tokenizer.model")];

/** The weight files that an index names, or an empty list where it is none. */
export function indexedFiles(text: string): string[] {
  try {
    const { weight_map: map } = JSON.parse(text) as { weight_map?: Readonly<Record<string, unknown>> };
    return [...new Set(Object.values(map ?? {}))]
      .filter((name) => typeof name === "string" && /^[^/\\]+\.safetensors$/.test(name))
      .sort() as string[];
  } catch {
    return [];
  }
}
